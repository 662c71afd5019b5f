"""What the summary cache counts and measures: every metric with its labels, and a recorder that needs no Triton."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from cleave.builders.names import CORRUPT, FOREIGN, HIT, MISS, OFF, STALE, STORE_ERROR

NOT_FOUND, EXPIRED, ERROR, REFUSED, DROPPED = "not_found", "expired", "error", "refused", "dropped"
"""Reasons for no summary, beside those for which a summary was encoded."""

_LATENCY_BUCKETS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_AGE_BUCKETS_S = (1.0, 10.0, 60.0, 600.0, 3600.0, 7200.0, 21600.0, 86400.0, 604800.0)


_REASONS = (HIT, MISS, STALE, CORRUPT, FOREIGN, STORE_ERROR, OFF, NOT_FOUND, EXPIRED, ERROR, REFUSED, DROPPED)
_COMMANDS = ("get", "set", "eval", "sadd", "smembers", "zrem", "delete")

LabelValues = tuple[str, ...]
"""Values of a metric's labels, in its order."""


@dataclass(frozen=True)
class Metric:
    """A Prometheus metric: a counter, a histogram if it has buckets, or a gauge that says once what does not change."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    series: tuple[LabelValues, ...] = ((),)
    """All there can be, by the values of their labels. They exist from the start, so that a rate sees the first one
    that is counted. Empty where only the server knows them."""

    @property
    def kind(self) -> Literal["counter", "gauge", "histogram"]:
        if self.buckets:
            return "histogram"
        return "counter" if self.series else "gauge"


_BY = (("id",), ("inputs",))
_OF_COMMANDS = tuple((command,) for command in _COMMANDS)

LOOKUPS = Metric(
    "cleave_summary_lookups_total",
    "Summaries asked for, by how each was obtained",
    ("by", "reason"),
    series=tuple((*by, reason) for by, reason in product(_BY, _REASONS)),
)
STORE_ERRORS = Metric(
    "cleave_summary_store_errors_total", "Failed commands of the store", ("command",), series=_OF_COMMANDS
)
READ_BYTES = Metric("cleave_summary_read_bytes_total", "Bytes of summaries read from the store")
WRITTEN_BYTES = Metric("cleave_summary_written_bytes_total", "Bytes of summaries written to the store")
ENCODED = Metric("cleave_summary_encoded_total", "Histories encoded")
ENCODE_SECONDS = Metric("cleave_summary_encode_seconds", "Time of one batch in the encoder", (), _LATENCY_BUCKETS_S)
STORE_SECONDS = Metric(
    "cleave_summary_store_seconds", "Time of one command of the store", ("command",), _LATENCY_BUCKETS_S, _OF_COMMANDS
)
AGE_SECONDS = Metric(
    "cleave_summary_age_seconds", "Time since a summary that was used was encoded", ("by",), _AGE_BUCKETS_S, _BY
)
INFO = Metric("cleave_info", "What is served: always 1", ("build", "version", "engine"), series=())

METRICS = (
    LOOKUPS,
    STORE_ERRORS,
    READ_BYTES,
    WRITTEN_BYTES,
    ENCODED,
    ENCODE_SECONDS,
    STORE_SECONDS,
    AGE_SECONDS,
    INFO,
)

Sums = Mapping[tuple[Metric, LabelValues], float]
Samples = Mapping[tuple[Metric, LabelValues], Sequence[float]]


class Recorder:
    """Gathers what happens until it is drained; telling Triton takes a call to another process each time."""

    def __init__(self) -> None:
        self._sums: defaultdict[tuple[Metric, LabelValues], float] = defaultdict(float)
        self._samples: defaultdict[tuple[Metric, LabelValues], list[float]] = defaultdict(list)

    def add(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        """Count something."""
        assert labels in metric.series, (metric, labels)
        self._sums[metric, labels] += amount

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Put a measured value in a histogram."""
        assert labels in metric.series, (metric, labels)
        self._samples[metric, labels].append(value)

    def drain(self) -> tuple[Sums, Samples]:
        """Sums of counters and samples of histograms since the last time."""
        drained = dict(self._sums), dict(self._samples)
        self._sums.clear()
        self._samples.clear()
        return drained
