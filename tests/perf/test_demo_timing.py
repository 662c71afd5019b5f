from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cleave.builders.predict.arms import BASELINE
from cleave.perf.arms import TOLERANCE, RankRequest, arm_named
from cleave.perf.demo_timing import Arm, measure, table
from cleave.perf.errors import ParityError, PerfError

REQUEST = RankRequest({}, {}, {"candidate_items": np.arange(4)})


class Clock:
    """Time that passes in arms only."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def arm_of(shift: float, clock: Clock | None = None, seconds: float = 1.0) -> Arm:
    """An arm whose scores are all `shift`, and that takes so long."""

    def arm(request: RankRequest) -> NDArray[np.float64]:
        if clock is not None:
            clock.now += seconds
        return np.full(request.num_candidates, shift)

    return arm


def test_every_arm_is_measured_against_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("cleave.perf.demo_timing.time.perf_counter", clock)
    arms = {BASELINE: arm_of(0, clock, 2.0), "single_pass": arm_of(TOLERANCE / 2, clock, 0.25)}
    baseline, single_pass = measure(arms, REQUEST, 3)
    assert (baseline.ratio, baseline.p50_ms, baseline.candidates_per_s, baseline.requests) == (1, 2000, 2, 3)
    assert (single_pass.ratio, single_pass.p50_ms, single_pass.candidates_per_s) == (8, 250, 16)
    assert single_pass.difference == TOLERANCE / 2
    # A turn lasts a second: the fast arm is called four times in each.
    assert single_pass.requests == 12
    assert "single_pass" in table([baseline, single_pass])


def test_an_arm_with_other_scores_stops_the_run() -> None:
    with pytest.raises(ParityError, match="arm 'wrong': expected the scores of 'per_candidate' within"):
        measure({BASELINE: arm_of(0), "wrong": arm_of(2 * TOLERANCE)}, REQUEST, 1)


def test_scores_that_are_no_numbers_stop_the_run() -> None:
    with pytest.raises(ParityError):
        measure({BASELINE: arm_of(0), "wrong": arm_of(float("nan"))}, REQUEST, 1)


def test_without_the_baseline_there_are_no_ratios() -> None:
    (result,) = measure({"single_pass": arm_of(0)}, REQUEST, 1)
    assert result.ratio is None


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(PerfError, match="arm 'fast': expected one of per_candidate, "):
        arm_named("fast")
