"""Times the arms on one request of a user for `cleave demo`; `cleave bench` measures with perf_analyzer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cleave.builders.formatting import text_table
from cleave.builders.predict.arms import ARMS, BASELINE
from cleave.perf.arms import Array, RankRequest
from cleave.perf.report.markdown import milliseconds, ratio
from cleave.perf.run.parity import Parity
from cleave.perf.timing import round_medians_ms

Scores = Callable[[RankRequest], Array]
"""A function from a request to its scores by one arm, [num_candidates]."""
Flops = Callable[[str, RankRequest], float]
"""A function from the name of an arm and a request to the FLOPs of the graphs that run."""

SECONDS = 0.3
"""An arm is called again within a round until this time is over."""


@dataclass(frozen=True)
class ArmTiming:
    """How one arm answers a request.

    Args:
        p50_ms: the median over rounds of the medians of each.
        ratio: the time of the baseline over that of this arm in the same round, the median over rounds.
        flops_ratio: the FLOPs of the baseline over those of this arm.
        difference: the largest difference of its scores from those of the arms before it.
    """

    arm: str
    p50_ms: float
    candidates_per_s: float
    ratio: float
    flops_ratio: float
    difference: float


def time_arms(arms: Mapping[str, Scores], request: RankRequest, flops: Flops, rounds: int) -> list[ArmTiming]:
    """Check that all arms agree on a request, which also warms them up, then time them in turn.

    Raises:
        ScoresDifferError: the scores of two arms differ.
    """
    parity = Parity()
    differences = {name: parity.check(name, scores(request)) for name, scores in arms.items()}
    times = round_medians_ms(
        {name: partial(scores, request) for name, scores in arms.items()}, rounds, SECONDS, title="arms"
    )
    medians = {name: float(np.median(each)) for name, each in times.items()}
    return [
        ArmTiming(
            arm=name,
            p50_ms=medians[name],
            candidates_per_s=request.num_candidates / medians[name] * 1000,
            ratio=float(np.median(np.divide(times[BASELINE], times[name]))),
            flops_ratio=flops(BASELINE, request) / flops(name, request),
            difference=differences[name],
        )
        for name in arms
    ]


def arms_table(timings: Sequence[ArmTiming]) -> str:
    """The arms of one request as a table for a terminal."""
    rows = [
        [
            timing.arm,
            ARMS[timing.arm].runs,
            milliseconds(timing.p50_ms),
            f"{timing.candidates_per_s:,.0f}",
            ratio(timing.ratio),
            ratio(timing.flops_ratio),
        ]
        for timing in timings
    ]
    return text_table(["arm", "what the server runs", "p50", "candidates/s", "ratio", "by FLOPs"], rows, "llrrrr")
