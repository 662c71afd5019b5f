"""`cleave bench --compare`: what is slower in one report than in another, beyond the noise that both measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cleave.perf.errors import PerfError
from cleave.perf.report.report import ArmReport, RunReport


@dataclass(frozen=True)
class Figure:
    """A figure of an arm that is compared: the median over the rounds, and the value of each round."""

    name: str
    same_machine: bool
    """Whether it can be compared between reports of one machine only."""

    def median(self, arm: ArmReport) -> float | None:
        value: float | None = getattr(arm, self.name)
        return value

    def rounds(self, arm: ArmReport) -> tuple[float, ...]:
        values: tuple[float, ...] = getattr(arm, f"{self.name}_of_rounds")
        return values


FIGURES = (Figure("candidates_per_s", same_machine=True), Figure("ratio", same_machine=False))


@dataclass(frozen=True)
class Change:
    """One figure of one arm in two reports: the median of each, and the values of the rounds."""

    model: str
    at: str
    arm: str
    figure: str
    before: float
    after: float
    rounds_before: tuple[float, ...]
    rounds_after: tuple[float, ...]

    @property
    def slower(self) -> bool:
        """Whether every round after is below every round before."""
        return max(self.rounds_after) < min(self.rounds_before)

    @property
    def faster(self) -> bool:
        """Whether every round after is above every round before."""
        return min(self.rounds_after) > max(self.rounds_before)

    def __str__(self) -> str:
        verdict = "SLOWER" if self.slower else "faster" if self.faster else "same  "
        spans = " to ".join(
            f"{median:,.4g} ({min(rounds):,.4g} to {max(rounds):,.4g})" if len(rounds) > 1 else f"{median:,.4g}"
            for median, rounds in ((self.before, self.rounds_before), (self.after, self.rounds_after))
        )
        change = self.after / self.before - 1
        return f"{verdict}  {self.model}, {self.at}: {self.arm}: {self.figure} {change:+.1%}, from {spans}"


def compare(before: RunReport, after: RunReport) -> Iterator[Change]:
    """Every figure that both reports have.

    Raises:
        PerfError: they have none in common.
    """
    one_machine = before.machine.processor == after.machine.processor
    figures = [figure for figure in FIGURES if one_machine or not figure.same_machine]
    arms_before, found = _arms(before), False
    for key, arm in _arms(after).items():
        for figure in figures if key in arms_before else ():
            change = _change(key, figure, arms_before[key], arm)
            if change is not None:
                found = True
                yield change
    if not found:
        raise PerfError("--compare: expected models, points and arms that both reports have, got none; compare others")


def _arms(report: RunReport) -> dict[tuple[str, str, str], ArmReport]:
    """Every arm of a report by its model, point and name."""
    return {
        (name, str(point.at), arm): figures
        for name, model in report.models.items()
        for point in model.points
        for arm, figures in point.arms.items()
    }


def _change(key: tuple[str, str, str], figure: Figure, before: ArmReport, after: ArmReport) -> Change | None:
    """The change of a figure; None where a report does not have the figure, or where it is 1 by definition."""
    rounds_before, rounds_after = figure.rounds(before), figure.rounds(after)
    by_definition = set(rounds_before) == set(rounds_after) == {1.0}
    median_before, median_after = figure.median(before), figure.median(after)
    if median_before is None or median_after is None or by_definition:
        return None
    return Change(*key, figure.name, median_before, median_after, rounds_before, rounds_after)


def noise_is_known(*reports: RunReport) -> bool:
    """Whether every arm was measured in several rounds."""
    return all(len(arm.candidates_per_s_of_rounds) > 1 for report in reports for arm in _arms(report).values())
