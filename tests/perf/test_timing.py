from __future__ import annotations

from collections.abc import Callable

import pytest

from cleave.perf.timing import milliseconds_of, round_medians_ms


class Clock:
    """Time that passes in calls alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        monkeypatch.setattr("cleave.perf.timing.time.perf_counter", lambda: self.now)

    def call(self, name: str, seconds: float) -> Callable[[], None]:
        def passes() -> None:
            self.calls.append(name)
            self.now += seconds

        return passes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_call_is_timed(clock: Clock) -> None:
    assert milliseconds_of(clock.call("a", 0.25)) == 250


def test_calls_take_turns_every_other_round_in_reverse(clock: Clock) -> None:
    medians = round_medians_ms({name: clock.call(name, seconds) for name, seconds in (("a", 1), ("b", 2))}, 3)
    assert medians == {"a": [1000] * 3, "b": [2000] * 3}
    assert clock.calls == list("abbaab")


def test_a_fast_call_fills_its_time_and_a_slow_one_is_made_once(clock: Clock) -> None:
    round_medians_ms({"fast": clock.call("fast", 0.25), "slow": clock.call("slow", 2.0)}, 2, seconds=1.0)
    assert (clock.calls.count("fast"), clock.calls.count("slow")) == (8, 2)
