"""From which history length on a kept summary pays: the default arm against the simpler one, over growing lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cleave.builders.formatting import text_table
from cleave.builders.predict.arms import ARMS, DEFAULT
from cleave.builders.spec import Axis
from cleave.perf.arms import RankRequest
from cleave.perf.demo_timing import Flops, Scores
from cleave.perf.report.markdown import milliseconds, ratio
from cleave.perf.timing import round_medians_ms

NUM_LENGTHS = 5
SECONDS = 0.15
"""An arm is called again within a round until this time is over."""
_simpler = ARMS[DEFAULT].simpler
assert _simpler is not None, "there is an arm that the default arm has to beat"
SIMPLER: str = _simpler
"""The arm that the default arm has to beat."""


@dataclass(frozen=True)
class LengthTiming:
    """Both arms at one history length.

    Args:
        padded: the number of events that this history is padded to.
        ms: the median of each arm, by name.
        ratio: the time of the simpler arm over that of the default arm in the same round, the median over rounds.
        flops_ratio: the FLOPs of the simpler arm over those of the default arm.
    """

    events: int
    padded: int
    ms: Mapping[str, float]
    ratio: float
    flops_ratio: float


def time_lengths(
    arms: Mapping[str, Scores], request: RankRequest, axis: Axis, flops: Flops, rounds: int
) -> list[LengthTiming]:
    """Time both arms on the last events of one user: all, half, a quarter of them and so on, the shortest first.

    Args:
        arms: both arms by name.
        request: the user's whole history.
        axis: the axis of the history.
        flops: of an arm for a request.
        rounds: the number of measurements of each arm at each length.
    """
    lengths = sorted({max(1, request.num_events >> halvings) for halvings in range(NUM_LENGTHS)})
    requests = {events: request.last_events(events) for events in lengths}
    calls = {(events, name): partial(arms[name], requests[events]) for events in lengths for name in (SIMPLER, DEFAULT)}
    for call in calls.values():
        call()  # the first keeps the summary
    times = round_medians_ms(calls, rounds, SECONDS, title="history lengths")
    return [
        LengthTiming(
            events,
            axis.bucket(events),
            {name: float(np.median(times[events, name])) for name in (SIMPLER, DEFAULT)},
            float(np.median(np.divide(times[events, SIMPLER], times[events, DEFAULT]))),
            flops(SIMPLER, requests[events]) / flops(DEFAULT, requests[events]),
        )
        for events in lengths
    ]


def lengths_table(timings: Sequence[LengthTiming]) -> str:
    """The lengths as a table for a terminal."""
    rows = [
        [
            f"{timing.events:,}",
            f"{timing.padded:,}",
            *map(milliseconds, timing.ms.values()),
            ratio(timing.ratio),
            ratio(timing.flops_ratio),
        ]
        for timing in timings
    ]
    head = ["events", "padded to", f"{SIMPLER}, p50", f"{DEFAULT}, p50", "ratio", "by FLOPs"]
    return text_table(head, rows, "r" * len(head))


def break_even_text(timings: Sequence[LengthTiming]) -> str:
    """Where the default arm begins to be the faster one, in words."""
    shortest, longest = timings[0], timings[-1]
    slower = [timing for timing in timings if timing.ratio <= 1]
    if longest in slower:
        return (
            f"On this machine {DEFAULT} is not faster than {SIMPLER} even at {longest.events:,} events: looking the "
            "summary up takes longer than encoding the history again. Longer histories and larger models, which cost "
            "more to encode, are where a kept summary pays."
        )
    if not slower:
        return (
            f"{DEFAULT} is faster at every one of these lengths, {ratio(shortest.ratio)} at {shortest.events:,} events "
            f"and {ratio(longest.ratio)} at {longest.events:,}."
        )
    last = slower[-1]
    following = timings[timings.index(last) + 1]
    return (
        f"The break-even lies between {last.events:,} and {following.events:,} events. For shorter histories {SIMPLER} "
        f"is at least as fast as {DEFAULT}: looking the summary up takes longer than encoding so few events again. "
        "For larger models, which cost more to encode, it lies lower."
    )
