"""All rounds of one model: in each, every arm is measured once; complete rounds are kept, so a run can be resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from cleave.builders.files import write_text
from cleave.builders.names import WHOLE, model_name
from cleave.builders.predict.arms import Arm
from cleave.perf.machine.environment import HostDescription, processor_time
from cleave.perf.run.arm_plan import ArmPlan, Measurement
from cleave.perf.run.prepare import Servers, check_parity, plans_of_point, warm_up
from cleave.perf.run.server import is_engine
from cleave.perf.run.subject import Subject
from cleave.perf.workload.workload import Point, Workload

ROUNDS = "rounds"
"""The folder of the rounds that are kept until the report is written."""

Round = Mapping[str, Measurement]
"""The measurement of each arm, by name."""


@dataclass(frozen=True)
class KeptRound:
    """A round in a file; `identity` names everything that decides what it measured."""

    identity: str
    measurements: Round


@dataclass(frozen=True)
class PointMeasurements:
    """What was measured of a model at one point: by round the measurement of each arm, by name."""

    point: Point
    plans: Sequence[ArmPlan]
    rounds: Sequence[Round]
    differences: Mapping[str, float]
    """The largest difference of each arm's scores from those of the others; empty where a resumed run did not
    compare again."""


@dataclass(frozen=True)
class ModelMeasurements:
    """What was measured of one model; `engines` says whether it is served as engines of TensorRT."""

    subject: Subject
    points: Sequence[PointMeasurements]
    engines: bool


def forget_rounds(out: Path) -> None:
    """Delete the rounds of a run whose report is complete."""
    shutil.rmtree(out / ROUNDS, ignore_errors=True)


@dataclass(frozen=True)
class ModelRun:
    """The measuring of one model.

    Args:
        host: the machine; only rounds that were measured on the same one, with the same versions, are used again.
        versions: the versions of the software that is measured.
        out: the folder of the run.
        progress: counts measurements.
    """

    workload: Workload
    subject: Subject
    arms: Sequence[Arm]
    host: HostDescription
    versions: Mapping[str, str]
    out: Path
    progress: tqdm[Any]

    def measure(self, servers: Servers) -> ModelMeasurements:
        """Measure every round that is not kept, after a check that all arms agree, and a warm-up.

        Raises:
            ScoresDifferError: two arms give different scores.
            PerfError: something cannot be measured.
        """
        name = self.subject.ranker_name
        points, numbers = list(enumerate(self.workload.points())), range(self.workload.rounds)
        kept = {(place, number): self._kept(place, number) for number in numbers for place, _ in points}
        if num_kept := sum(round_ is not None for round_ in kept.values()):
            print(f"{name}: {num_kept} of {len(kept)} rounds were measured before", file=sys.stderr)
            self.progress.update(num_kept * len(self.arms))
        plans: dict[int, Sequence[ArmPlan]] = {}
        differences: dict[int, Mapping[str, float]] = {}
        for place, point in points:
            self.progress.set_description(f"{name}: parity at {point}")
            stem = self.out / "inputs" / f"{name}-{place}"
            plans[place] = plans_of_point(self.workload, point, self.subject, self.arms, servers, stem)
            if any(kept[place, number] is None for number in numbers):
                differences[place] = check_parity(plans[place], self.workload.tolerance)
                warm_up(plans[place], point)
        rounds = {
            (place, number): round_ or self._measured(place, number, plans[place])
            for (place, number), round_ in kept.items()
        }
        measured = [
            PointMeasurements(
                point, plans[place], [rounds[place, number] for number in numbers], differences.get(place, {})
            )
            for place, point in points
        ]
        return ModelMeasurements(self.subject, measured, is_engine(servers.counters.url, model_name(name, WHOLE)))

    def _measured(self, place: int, number: int, plans: Sequence[ArmPlan]) -> Round:
        """Every arm once; in every other round in reverse order, so that none profits from its place."""
        measurements = {}
        for plan in plans if number % 2 == 0 else reversed(plans):
            self.progress.set_description(f"{self.subject.ranker_name}: {plan.arm.name}")
            before = processor_time()
            measurement = plan.measure()
            stolen = processor_time().stolen_since(before)
            measurements[plan.arm.name] = dataclasses.replace(measurement, stolen=stolen)
            self.progress.update()
        write_text(self._file(place, number), json.dumps(dataclasses.asdict(KeptRound(self._identity, measurements))))
        return measurements

    def _kept(self, place: int, number: int) -> Round | None:
        """The round, if an earlier run that was the same measured it and did not finish."""
        try:
            kept = msgspec.json.decode(self._file(place, number).read_bytes(), type=KeptRound)
        except (OSError, msgspec.MsgspecError):
            return None
        return kept.measurements if kept.identity == self._identity else None

    def _file(self, place: int, number: int) -> Path:
        return self.out / ROUNDS / f"{self.subject.ranker_name}-{place}-{number}.json"

    @property
    def _identity(self) -> str:
        parts = [
            dict(self.workload.content),
            [arm.name for arm in self.arms],
            self.subject.name,
            self.subject.size,
            self.subject.fingerprint,
            dataclasses.asdict(self.host),
            dict(self.versions),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
