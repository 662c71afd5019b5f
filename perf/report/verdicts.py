"""Judges a run: each threshold of its workload against the report of each model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cleave.builders.predict.arms import BASELINE
from cleave.perf.report.report import ArmReport, ModelReport, Verdict
from cleave.perf.workload.thresholds import Threshold


def verdicts(thresholds: Sequence[Threshold], models: Mapping[str, ModelReport]) -> Iterator[Verdict]:
    """Each threshold for each model that it is about, at the model's last point; a missing figure does not hold."""
    for threshold in thresholds:
        for name, model in models.items():
            if threshold.model in (None, name):
                value = measured(threshold, model.last.arms)
                yield Verdict(threshold.text, name, value, value is not None and threshold.holds(value))


def measured(threshold: Threshold, arms: Mapping[str, ArmReport]) -> float | None:
    """The figure that a threshold limits; None where an arm, or its figure, was not measured."""
    arm = arms.get(threshold.arm)
    if arm is None:
        return None
    if threshold.metric is not None:
        value: float | None = getattr(arm, threshold.metric)
        return value
    other = arms.get(threshold.other or "")
    if other is None:
        return None
    # Ratios to the baseline are taken round by round, between neighbours in time.
    paired = arm.ratio if threshold.other == BASELINE else None
    return arm.candidates_per_s / other.candidates_per_s if paired is None else paired
