"""`cleave bench --compare`: what is slower in one report than in another, beyond the noise that both measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cleave.perf.errors import PerfError
from cleave.perf.report.markdown import point_text

FIGURES = {"candidates_per_s": "candidates_per_s_of_rounds", "ratio": "ratio_of_rounds"}
"""What is compared, and where its rounds are. Candidates a second only tell something on one machine."""


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
        """Every round after is below every round before."""
        return max(self.rounds_after) < min(self.rounds_before)

    @property
    def faster(self) -> bool:
        return min(self.rounds_after) > max(self.rounds_before)

    def __str__(self) -> str:
        verdict = "SLOWER" if self.slower else "faster" if self.faster else "same  "
        spans = " to ".join(
            f"{median:,.4g} ({min(rounds):,.4g} to {max(rounds):,.4g})" if len(rounds) > 1 else f"{median:,.4g}"
            for median, rounds in ((self.before, self.rounds_before), (self.after, self.rounds_after))
        )
        change = self.after / self.before - 1
        return f"{verdict}  {self.model}, {self.at}: {self.arm}: {self.figure} {change:+.1%}, from {spans}"


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """Every figure that both reports have.

    Raises:
        PerfError: they have none in common.
    """
    one_machine = before["machine"]["processor"] == after["machine"]["processor"]
    figures = FIGURES if one_machine else {"ratio": FIGURES["ratio"]}
    found = False
    for name, model in after["models"].items():
        others = {point_text(p["at"]): p["arms"] for p in before["models"].get(name, {"points": []})["points"]}
        for point in model["points"]:
            at = point_text(point["at"])
            for arm in (arm for arm in point["arms"] if arm in others.get(at, {})):
                for figure, rounds in figures.items():
                    change = _change(name, at, arm, figure, rounds, others[at][arm], point["arms"][arm])
                    if change is not None:
                        found = True
                        yield change
    if not found:
        raise PerfError("--compare: expected models, points and arms that both reports have, got none; compare others")


def _change(
    model: str, at: str, arm: str, figure: str, rounds: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Change | None:
    """None where one of the reports has no such figure, or where it is 1 by definition."""
    if not before[rounds] or not after[rounds] or before[rounds] == after[rounds] == [1.0] * len(after[rounds]):
        return None
    return Change(model, at, arm, figure, before[figure], after[figure], tuple(before[rounds]), tuple(after[rounds]))


def noise_is_known(*reports: Mapping[str, Any]) -> bool:
    """Whether every arm was measured in several rounds."""
    return all(
        len(arm["candidates_per_s_of_rounds"]) > 1
        for report in reports
        for model in report["models"].values()
        for point in model["points"]
        for arm in point["arms"].values()
    )
