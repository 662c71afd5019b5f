from __future__ import annotations

import numpy as np
import pytest

from cleave.builders.predict.arms import ARMS, BASELINE
from cleave.perf import demo_timing
from cleave.perf.arms import TOLERANCE, Array, RankRequest, arm_named
from cleave.perf.demo_timing import Scores, arms_table, time_arms
from cleave.perf.errors import PerfError, ScoresDifferError

REQUEST = RankRequest({}, {}, {"candidate_items": np.arange(4)})
FLOPS = {BASELINE: 100.0, "single_pass": 20.0, "wrong": 1.0}


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes in arms alone."""
    now = [0.0]
    monkeypatch.setattr("cleave.perf.timing.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(demo_timing, "SECONDS", 1.0)
    return now


def flops(arm: str, request: RankRequest) -> float:
    return FLOPS[arm]


def arm_of(now: list[float], seconds: float, score: float = 0.0) -> Scores:
    def scores(request: RankRequest) -> Array:
        now[0] += seconds
        return np.full(request.num_candidates, score)

    return scores


def test_every_arm_is_timed_against_the_baseline(now: list[float]) -> None:
    arms = {BASELINE: arm_of(now, 2.0), "single_pass": arm_of(now, 0.25, TOLERANCE / 2)}
    baseline, single_pass = time_arms(arms, REQUEST, flops, 3)
    assert (baseline.p50_ms, baseline.candidates_per_s, baseline.ratio, baseline.flops_ratio) == (2000, 2, 1, 1)
    assert (single_pass.p50_ms, single_pass.candidates_per_s, single_pass.ratio) == (250, 16, 8)
    assert single_pass.flops_ratio == 5
    assert single_pass.difference == TOLERANCE / 2
    _, _, *rows = arms_table([baseline, single_pass]).splitlines()
    assert [row.split()[0] for row in rows] == [BASELINE, "single_pass"]
    assert ARMS["single_pass"].runs in rows[1]
    assert rows[1].split()[-2:] == ["8x", "5x"]


@pytest.mark.parametrize("score", [2 * TOLERANCE, float("nan")])
def test_an_arm_with_other_scores_stops_the_run(now: list[float], score: float) -> None:
    with pytest.raises(ScoresDifferError, match="arm 'wrong': expected the scores of "):
        time_arms({BASELINE: arm_of(now, 1.0), "wrong": arm_of(now, 1.0, score)}, REQUEST, flops, 1)


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(PerfError, match="arm 'fast': expected one of per_candidate, "):
        arm_named("fast")
