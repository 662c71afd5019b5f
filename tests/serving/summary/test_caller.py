from __future__ import annotations

from cleave.serving.summary.caller import ASK_AFTER_S, PATIENT, Caller
from tests.serving.summary.summaries import FakeClock


def test_a_caller_waits_until_the_time_is_over() -> None:
    clock = FakeClock()
    caller = Caller(2.0, clock=clock)
    clock.now += 1.9
    assert caller.waits
    assert not caller.is_late
    clock.now += 0.2
    assert not caller.waits
    assert caller.is_late
    assert PATIENT.waits
    assert not PATIENT.is_late


def test_whether_a_request_was_cancelled_is_asked_only_once_it_has_waited() -> None:
    clock, asked = FakeClock(), []

    def is_cancelled() -> bool:
        asked.append(clock.now)
        return True

    caller = Caller(None, is_cancelled, clock)
    assert caller.waits
    assert not asked
    clock.now += ASK_AFTER_S
    assert not caller.waits
    assert len(asked) == 1
    assert not caller.is_late
