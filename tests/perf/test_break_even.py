from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from cleave.builders.predict.arms import DEFAULT
from cleave.builders.spec import Axis
from cleave.perf import break_even
from cleave.perf.arms import Array, RankRequest
from cleave.perf.break_even import SIMPLER, LengthTiming, break_even_text, lengths_table, time_lengths

AXIS = Axis("history", min=1, opt=16, max=100)
REQUEST = RankRequest({"history_items": np.arange(40)}, {}, {"candidate_items": np.arange(4)}, "user")


def timed(ratios: Iterable[float]) -> list[LengthTiming]:
    """Histories of 10, 20, ... events."""
    return [
        LengthTiming(10 * place, 16 * place, {SIMPLER: ratio, DEFAULT: 1.0}, ratio, 2 * ratio)
        for place, ratio in enumerate(ratios, start=1)
    ]


def test_both_arms_are_timed_on_the_last_events_of_users_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    asked: dict[str, list[int]] = {}

    def scores(request: RankRequest) -> Array:
        asked[request.user_id] = request.history["history_items"].tolist()
        return np.zeros(request.num_candidates)

    def simpler(request: RankRequest) -> Array:
        nonlocal now
        now += 0.001 * request.num_events
        return scores(request)

    def default(request: RankRequest) -> Array:
        nonlocal now
        now += 0.015
        return scores(request)

    monkeypatch.setattr("cleave.perf.timing.time.perf_counter", lambda: now)
    monkeypatch.setattr(break_even, "SECONDS", 0.0)
    timings = time_lengths(
        {SIMPLER: simpler, DEFAULT: default},
        REQUEST,
        AXIS,
        lambda arm, request: request.num_events if arm == SIMPLER else 1.0,
        rounds=3,
    )
    assert [timing.events for timing in timings] == [2, 5, 10, 20, 40]
    assert [timing.padded for timing in timings] == [16, 16, 16, 32, 64]
    assert [timing.flops_ratio for timing in timings] == [2, 5, 10, 20, 40]
    assert [timing.ratio for timing in timings] == pytest.approx([events / 15 for events in (2, 5, 10, 20, 40)])
    assert asked == {f"user-{events}": list(range(40 - events, 40)) for events in (2, 5, 10, 20, 40)}
    assert break_even_text(timings).startswith("The break-even lies between 10 and 20 events.")


@pytest.mark.parametrize(
    ("ratios", "begin"),
    [
        ([0.5, 0.8, 1.5, 2], "The break-even lies between 20 and 30 events."),
        ([0.5, 1.2, 0.9, 2], "The break-even lies between 30 and 40 events."),  # noise: it is looked for from the end
        ([0.5, 0.6, 0.7], f"On this machine {DEFAULT} is not faster than {SIMPLER} even at 30 events:"),
        ([2, 1.5, 1], f"On this machine {DEFAULT} is not faster than {SIMPLER} even at 30 events:"),
        ([1.1, 1.5, 2.5], f"{DEFAULT} is faster at every one of these lengths, 1.1x at 10 events and 2.5x at 30."),
        ([0.5], f"On this machine {DEFAULT} is not faster than {SIMPLER} even at 10 events:"),
    ],
)
def test_a_default_arm_that_is_slower_is_never_without_a_word(ratios: list[float], begin: str) -> None:
    assert break_even_text(timed(ratios)).startswith(begin)


def test_the_table_has_a_row_for_each_length() -> None:
    _, _, *rows = lengths_table(timed([0.5, 2])).splitlines()
    assert [row.split()[:2] for row in rows] == [["10", "16"], ["20", "32"]]
