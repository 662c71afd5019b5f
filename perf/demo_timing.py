"""Times arms on one request for `cleave demo`; `cleave bench` measures with perf_analyzer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cleave.builders.predict.arms import BASELINE
from cleave.perf.arms import RankRequest
from cleave.perf.run.parity import Parity

Arm = Callable[[RankRequest], NDArray[Any]]
"""From a request to its scores."""

SECONDS_PER_TURN = 1.0
"""An arm is called again within its turn until this is used up, at least once."""
MAX_CALLS_PER_TURN = 50


@dataclass(frozen=True)
class ArmResult:
    """What one arm did; times in milliseconds."""

    arm: str
    requests: int
    p50_ms: float
    p99_ms: float
    candidates_per_s: float
    ratio: float | None
    """Candidates per second over the baseline's: the median over the rounds; None if the baseline was not run."""
    difference: float
    """Largest difference between its scores and those of any arm before."""


def measure(arms: Mapping[str, Arm], request: RankRequest, rounds: int) -> list[ArmResult]:
    """Check that all arms agree, then time each in turn for `rounds` rounds after a warm-up of one call each.

    Raises:
        ParityError: an arm's scores are not those of another.
    """
    turns: dict[str, list[list[float]]] = {name: [] for name in arms}
    with tqdm(total=(rounds + 1) * len(arms), unit="turn", file=sys.stderr, leave=False, disable=None) as progress:
        differences = _warm_up(arms, request, progress)
        for _ in range(rounds):
            for name, arm in arms.items():
                progress.set_description(name)
                turns[name].append(_turn(arm, request))
                progress.update()
    baseline = [float(np.median(turn)) for turn in turns.get(BASELINE, [])]
    return [_result(name, turns[name], baseline, request, differences[name]) for name in arms]


def _warm_up(arms: Mapping[str, Arm], request: RankRequest, progress: tqdm[Any]) -> dict[str, float]:
    """Iteration -1: its times are not used, its scores are compared."""
    parity, differences = Parity(), {}
    for name, arm in arms.items():
        progress.set_description(f"{name} (warm-up)")
        differences[name] = parity.check(name, arm(request))
        progress.update()
    return differences


def _turn(arm: Arm, request: RankRequest) -> list[float]:
    """Milliseconds of each call of one turn."""
    times: list[float] = []
    while len(times) < MAX_CALLS_PER_TURN and (not times or sum(times) < SECONDS_PER_TURN * 1000):
        start = time.perf_counter()
        arm(request)
        times.append((time.perf_counter() - start) * 1000)
    return times


def _result(
    name: str, turns: list[list[float]], baseline: list[float], request: RankRequest, difference: float
) -> ArmResult:
    times = np.concatenate([np.asarray(turn) for turn in turns])
    p50, p99 = (float(np.percentile(times, percent)) for percent in (50, 99))
    ratios = [base / float(np.median(turn)) for base, turn in zip(baseline, turns, strict=False)]
    return ArmResult(
        arm=name,
        requests=len(times),
        p50_ms=p50,
        p99_ms=p99,
        candidates_per_s=request.num_candidates / p50 * 1000,
        ratio=float(np.median(ratios)) if ratios else None,
        difference=difference,
    )


def table(results: list[ArmResult]) -> str:
    """The results for people."""
    lines = [
        f"{'arm':<14}{'requests':>9}{'p50':>12}{'p99':>12}{'candidates/s':>14}{'ratio':>9}{'score difference':>18}"
    ]
    for result in results:
        ratio = "" if result.ratio is None else f"{result.ratio:,.1f}x"
        lines.append(
            f"{result.arm:<14}{result.requests:>9}{result.p50_ms:>9,.1f} ms{result.p99_ms:>9,.1f} ms"
            f"{result.candidates_per_s:>14,.0f}{ratio:>9}{result.difference:>18.1e}"
        )
    return "\n".join(lines)
