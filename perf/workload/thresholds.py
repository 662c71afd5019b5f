"""Thresholds of a workload: lines such as `cached >= 500 x per_candidate` that a run must meet."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cleave.perf.errors import PerfError

METRICS = {"p50": "p50_ms", "p99": "p99_ms", "hit_rate": "hit_rate", "candidates_per_s": "candidates_per_s"}
"""Names in thresholds, and the report's."""

DEFAULT_ARM = "cached"
"""Of a threshold that names a metric and no arm."""

_COMPARISONS = {">=": operator.ge, "<=": operator.le}
_RATIO = re.compile(r"(?P<arm>\w+) *(?P<sign>>=|<=) *(?P<limit>[\d._]+) *x *(?P<other>\w+)")
_METRIC = re.compile(
    rf"(?:(?P<arm>\w+) +)?(?P<metric>{'|'.join(METRICS)}) *(?P<sign>>=|<=) *(?P<limit>[\d._]+)(?: *ms)?"
)


@dataclass(frozen=True)
class Threshold:
    """A limit on one figure of an arm, or, with `other`, on its candidates a second over another arm's.

    It holds for the point that stands for a model; `model` is the one model meant, or None for every model.
    """

    text: str
    model: str | None
    arm: str
    metric: str | None
    other: str | None
    sign: str
    limit: float

    def measured(self, arms: Mapping[str, Mapping[str, Any]]) -> float | None:
        """The figure from the `arms` of a report; None where an arm or its figure is not there."""
        if self.metric is not None:
            value = arms.get(self.arm, {}).get(self.metric)
            return None if value is None else float(value)
        if self.other is None or self.arm not in arms or self.other not in arms:
            return None
        of, to = (arms[name]["candidates_per_s"] for name in (self.arm, self.other))
        paired = arms[self.arm]["ratio"] if arms[self.other]["ratio"] == 1 else None
        return float(of / to if paired is None else paired)

    def holds(self, value: float) -> bool:
        return bool(_COMPARISONS[self.sign](value, self.limit))


def threshold_from_text(where: str, text: object) -> Threshold:
    """`[MODEL:] ARM >= N x ARM` or `[MODEL:] [ARM] p50|p99|hit_rate|candidates_per_s >=|<= N [ms]`.

    Raises:
        PerfError: it is neither.
    """
    if isinstance(text, str):
        before, colon, rule = text.rpartition(":")
        model = before.strip() if colon else None
        if match := _RATIO.fullmatch(rule.strip()):
            return Threshold(text, model, match["arm"], None, match["other"], match["sign"], float(match["limit"]))
        if match := _METRIC.fullmatch(rule.strip()):
            arm, metric = match["arm"] or DEFAULT_ARM, METRICS[match["metric"]]
            return Threshold(text, model, arm, metric, None, match["sign"], float(match["limit"]))
    raise PerfError(
        f"{where}: expected a line such as 'cached >= 500 x per_candidate', 'p99 <= 50 ms' or 'hit_rate >= 0.99', "
        f"got {text!r}; correct it"
    )


@dataclass(frozen=True)
class Verdict:
    """A threshold against what one model did."""

    threshold: str
    model: str
    measured: float | None
    holds: bool

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'FAILS'}  {self.said}"

    @property
    def said(self) -> str:
        """The threshold with what was measured."""
        measured = "not measured" if self.measured is None else f"measured {self.measured:,.4g}"
        return f"{self.model}: {self.threshold.removeprefix(f'{self.model}:').strip()} ({measured})"


def verdicts(thresholds: tuple[Threshold, ...], models: Mapping[str, Mapping[str, Any]]) -> Iterator[Verdict]:
    """Each threshold for each model that it means; what was not measured does not hold."""
    for threshold in thresholds:
        for name, model in models.items():
            if threshold.model in (None, name):
                value = threshold.measured(model["arms"])
                yield Verdict(threshold.text, name, value, value is not None and threshold.holds(value))
