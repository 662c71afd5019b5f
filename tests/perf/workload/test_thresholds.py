from __future__ import annotations

from typing import Any

import pytest

from cleave.perf.workload.thresholds import threshold_from_text, verdicts

ARMS: dict[str, dict[str, Any]] = {
    "per_candidate": {"candidates_per_s": 10.0, "ratio": 1.0, "p99_ms": 900.0, "hit_rate": None},
    "single_pass": {"candidates_per_s": 2000.0, "ratio": 190.0, "p99_ms": 40.0, "hit_rate": None},
    "cached": {"candidates_per_s": 6000.0, "ratio": 610.0, "p99_ms": 60.0, "hit_rate": 0.995},
}


@pytest.mark.parametrize(
    ("text", "measured", "holds"),
    [
        ("cached >= 500 x per_candidate", 610, True),  # the paired ratio, not the quotient of the medians
        ("single_pass >= 200 x per_candidate", 190, False),
        ("cached >= 2 x single_pass", 3, True),
        ("p99 <= 50 ms", 60, False),
        ("single_pass p99 <= 50 ms", 40, True),
        ("hit_rate >= 0.99", 0.995, True),
        ("candidates_per_s >= 5_000", 6000, True),
        ("append: cached >= 700 x per_candidate", 610, False),
    ],
)
def test_thresholds(text: str, measured: float, holds: bool) -> None:
    (verdict,) = verdicts((threshold_from_text("test", text),), {"append": {"arms": ARMS}})
    assert (verdict.measured, verdict.holds) == (measured, holds)
    assert str(verdict).startswith("holds" if holds else "FAILS")
    assert text in str(verdict)


@pytest.mark.parametrize("text", ["uncached p50 <= 5 ms", "cached >= 5 x uncached", "single_pass hit_rate >= 0"])
def test_what_was_not_measured_does_not_hold(text: str) -> None:
    (verdict,) = verdicts((threshold_from_text("test", text),), {"append": {"arms": ARMS}})
    assert not verdict.holds
    assert "not measured" in str(verdict)


def test_a_threshold_of_one_model_is_for_no_other() -> None:
    threshold = threshold_from_text("test", "vista: hit_rate >= 0.99")
    assert not list(verdicts((threshold,), {"append": {"arms": ARMS}}))
