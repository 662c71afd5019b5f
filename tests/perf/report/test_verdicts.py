"""What a run says of the thresholds of its workload."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cleave.perf.report.files import read_report
from cleave.perf.report.report import ModelReport, PointReport
from cleave.perf.report.verdicts import verdicts
from cleave.perf.workload.thresholds import threshold_from_text


@pytest.fixture
def append() -> ModelReport:
    """A recorded report with round figures, and without the arm `uncached`."""
    model = read_report(Path(__file__).parents[1] / "recorded" / "report.json").models["append"]
    of: dict[str, dict[str, Any]] = {
        "per_candidate": {"candidates_per_s": 10.0, "ratio": 1.0, "p99_ms": 900.0, "hit_rate": None},
        "single_pass": {"candidates_per_s": 2000.0, "ratio": 190.0, "p99_ms": 40.0, "hit_rate": None},
        "cached": {"candidates_per_s": 6000.0, "ratio": 610.0, "p99_ms": 60.0, "hit_rate": 0.995},
    }
    arms = {name: replace(model.last.arms[name], **figures) for name, figures in of.items()}
    return replace(model, points=(PointReport(at=model.last.at, arms=arms),))


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
def test_thresholds(text: str, measured: float, holds: bool, append: ModelReport) -> None:
    (verdict,) = verdicts((threshold_from_text("test", text),), {"append": append})
    assert (verdict.measured, verdict.holds) == (measured, holds)
    assert str(verdict).startswith("holds" if holds else "FAILS")
    assert text in str(verdict)


@pytest.mark.parametrize("text", ["uncached p50 <= 5 ms", "cached >= 5 x uncached", "single_pass hit_rate >= 0"])
def test_what_was_not_measured_does_not_hold(text: str, append: ModelReport) -> None:
    (verdict,) = verdicts((threshold_from_text("test", text),), {"append": append})
    assert not verdict.holds
    assert "not measured" in str(verdict)


def test_a_threshold_of_one_model_is_for_no_other(append: ModelReport) -> None:
    threshold = threshold_from_text("test", "vista: hit_rate >= 0.99")
    assert not list(verdicts((threshold,), {"append": append}))
