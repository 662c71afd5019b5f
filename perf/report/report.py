"""A benchmark's report: every figure of a run, with what it was made on, by and with; `report.json` is its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from cleave.perf.machine.environment import HostDescription
from cleave.perf.run.arm_plan import ServedModel
from cleave.perf.workload.workload import Load, point_text

FORMAT = 1
"""The format of `report.json`; no other one is read."""


@dataclass(frozen=True, kw_only=True)
class ArmReport:
    """The figures of an arm at a point; rates and ratios are medians over the rounds, latencies are of all requests."""

    candidates_per_s: float
    candidates_per_s_of_rounds: tuple[float, ...]
    noise: float | None
    """Half the distance between the fastest and the slowest round, as a share of the median; None of a single round."""
    p50_ms: float
    p99_ms: float
    hit_rate: float | None
    """The hit rate of the summary cache; None for an arm that keeps no summaries."""
    expected_hit_rate: float | None
    """The hit rate that the workload makes."""
    requests: int
    messages: int
    """Requests of the protocol: several for a user's request whose candidates are sent in several batches."""
    batch: int
    """Rows of a message."""
    in_proportion: float | None
    """How many times as many candidates a request has as were sent, where not all were; latencies are multiplied."""
    ratio: float | None
    """Candidates per second over the baseline's in the same round; None if the baseline was not measured."""
    ratio_of_rounds: tuple[float, ...]
    ratio_noise: float | None
    flops: float
    """The FLOPs of one request, on the mean."""
    predicted_ms: float | None
    """The latency by the roofline of the processor; None where the model is served as engines, on a GPU."""
    limit_ms: float | None
    """The least time that the processor's peaks allow; None as `predicted_ms`."""
    stages_ms: Mapping[str, float]
    """Where the time of a request goes, on the mean, by stage."""
    stolen: float
    """The share of the processor time asked for that the machine's host gave to others."""
    server: Mapping[str, ServedModel]
    """What each model of the server did, in the last round."""
    score_difference: float | None
    """The largest difference from the scores of the other arms; None where a resumed run did not compare again."""
    command: tuple[str, ...] | None
    """The command line of perf_analyzer; None for an arm that is measured without it."""
    predicted_ratio: float | None
    """The baseline's FLOPs over this arm's."""

    @property
    def limit_share(self) -> float | None:
        """The least time over the median latency: 1 at the machine's limit."""
        return None if self.limit_ms is None else self.limit_ms / self.p50_ms


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a point of a workload sets; typical lengths, and the distributions that they were drawn from in words."""

    history: int
    candidates: int
    histories: str
    candidate_lists: str
    cached_share: float
    concurrency: int | None
    rate_per_s: float | None

    def __str__(self) -> str:
        load = Load(self.concurrency, self.rate_per_s)
        return point_text(self.histories, self.candidate_lists, self.cached_share, load)


@dataclass(frozen=True, kw_only=True)
class PointReport:
    """Every arm at one point, by name."""

    at: Setting
    arms: Mapping[str, ArmReport]


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """Every point of one model; the last one stands for the model."""

    name: str
    size: str
    fingerprint: str
    current: bool
    """Whether the build that was measured is what this source makes."""
    engines: bool = False
    """Whether it was served as engines of TensorRT."""
    points: tuple[PointReport, ...]

    @property
    def last(self) -> PointReport:
        """The point whose figures stand for the model."""
        return self.points[-1]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The measured peaks of the processor."""

    matrix_flops_per_s: float
    vector_flops_per_s: float
    memory_bytes_per_s: float
    launch_us: float


@dataclass(frozen=True, kw_only=True)
class HostReport(HostDescription):
    """The machine of a run, and how busy it was: load averages before and after."""

    load_average: tuple[float, float]
    limits: Limits | None = None
    """The peaks of the processor; None where every model was served as engines, on a GPU."""


@dataclass(frozen=True)
class Verdict:
    """A threshold of the workload against what one model did; `measured` is None if its figure was not measured."""

    threshold: str
    model: str
    measured: float | None
    holds: bool

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'FAILS'}  {self.text}"

    @property
    def text(self) -> str:
        """The threshold with what was measured."""
        measured = "not measured" if self.measured is None else f"measured {self.measured:,.4g}"
        return f"{self.model}: {self.threshold.removeprefix(f'{self.model}:').strip()} ({measured})"


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """A whole run; times are ISO 8601."""

    format: int = FORMAT
    command: str
    workload: Mapping[str, Any]
    """The name of the workload and the content of its file."""
    started: str
    finished: str
    machine: HostReport
    versions: Mapping[str, str]
    models: Mapping[str, ModelReport]
    thresholds: tuple[Verdict, ...]

    def to_json(self) -> str:
        """The text of `report.json`: `at` and `arms` of a model repeat those of its last point, for short programs."""
        content = asdict(self)
        for name, model in content["models"].items():
            points = model.pop("points")
            content["models"][name] = {**model, **points[-1], "points": points}
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RunReport:
        """
        Raises:
            msgspec.DecodeError: it is not JSON.
            msgspec.ValidationError: it is not a report; names the entry.
        """
        return msgspec.json.decode(text, type=cls)
