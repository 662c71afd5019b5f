"""What one arm sends at a point of a workload, and what comes of sending it once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cleave.builders.predict.arms import Arm
from cleave.perf.arms import Array, RankRequest
from cleave.perf.workload.traffic import Traffic


@dataclass(frozen=True)
class ServedModel:
    """What one model of the server did in a measurement: requests, rows, and mean microseconds of a request by stage.

    Those of a client are 0 inside an ensemble.
    """

    requests: int
    rows: int
    client_send_us: float
    client_recv_us: float
    queue_us: float
    input_us: float
    compute_us: float
    output_us: float


@dataclass(frozen=True)
class Measurement:
    """One measurement of an arm: the requests of its plan, sent once and answered."""

    arm: str
    requests: int
    messages: int
    """Requests of the protocol: several for a user's request whose candidates are sent in several batches."""
    candidates: int
    seconds: float
    """The time from the first message to the last answer."""
    latencies_ms: Sequence[float]
    """The latency of each user's request."""
    hit_rate: float | None
    """The hit rate of the summary cache; None for an arm that keeps no summaries."""
    stages_ms: Mapping[str, float]
    """Where the time of a user's request went, on the mean, by stage."""
    server: Mapping[str, ServedModel] = field(default_factory=dict)
    stolen: float = 0.0
    """The share of the processor time asked for that the machine's host gave to others."""

    @property
    def candidates_per_s(self) -> float:
        return self.candidates / self.seconds


@dataclass(frozen=True)
class ArmPlan(ABC):
    """The traffic of an arm at a point, and how it is sent: each kind of server has a class of its own."""

    arm: Arm
    traffic: Traffic

    @property
    def batch(self) -> int:
        """Rows of a message."""
        return 1

    @property
    def scale(self) -> float:
        """How many times as many candidates the requests have as are sent."""
        return 1.0

    @property
    def command(self) -> tuple[str, ...] | None:
        """The command that measures it, where it is one."""
        return None

    @abstractmethod
    def scores(self, request: RankRequest) -> list[Array]:
        """Scores of one request, [num_candidates], by every way in which the arm comes to them.

        An arm that keeps summaries encodes the user, and then finds what it kept; the user is forgotten afterwards.
        """

    @abstractmethod
    def measure(self) -> Measurement:
        """Send the traffic once.

        Raises:
            PerfError: a request fails, or what was measured is not what was planned.
        """
