"""Thresholds of a workload: lines such as `cached >= 500 x per_candidate` that a run must meet."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass

from cleave.builders.predict.arms import DEFAULT
from cleave.perf.errors import PerfError

METRICS = {"p50": "p50_ms", "p99": "p99_ms", "hit_rate": "hit_rate", "candidates_per_s": "candidates_per_s"}
"""Figures that a threshold may limit: as it writes them, and as the report of an arm names them."""

_COMPARISONS = {">=": operator.ge, "<=": operator.le}
_NUMBER = r"\d[\d_]*(?:\.\d+)?"
_RATIO = re.compile(rf"(?P<arm>\w+) *(?P<sign>>=|<=) *(?P<limit>{_NUMBER}) *x *(?P<other>\w+)")
_METRIC = re.compile(
    rf"(?:(?P<arm>\w+) +)?(?P<metric>{'|'.join(METRICS)}) *(?P<sign>>=|<=) *(?P<limit>{_NUMBER})(?: *ms)?"
)


@dataclass(frozen=True)
class Threshold:
    """A limit on one figure of an arm, or, with `other`, on its candidates/s over those of another arm.

    It is about the last point of a model; `model` is None where it is about every model.
    """

    text: str
    model: str | None
    arm: str
    metric: str | None
    other: str | None
    sign: str
    limit: float

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
            arm, metric = match["arm"] or DEFAULT, METRICS[match["metric"]]
            return Threshold(text, model, arm, metric, None, match["sign"], float(match["limit"]))
    raise PerfError(
        f"{where}: expected a line such as 'cached >= 500 x per_candidate', 'p99 <= 50 ms' or 'hit_rate >= 0.99', "
        f"got {text!r}; correct it"
    )
