from __future__ import annotations

from pathlib import Path

import pytest

from cleave.serving.summary.metrics import METRICS, Metric, Recorder

DOCS = (Path(__file__).parents[3] / "docs" / "summary_cache.md").read_text()
READ = Metric("read_total", "Things read", ("by",), series=(("id",),))
TIMES = Metric("read_seconds", "Times", (), (1.0,))


def test_what_was_recorded_is_drained_once() -> None:
    recorder = Recorder()
    recorder.add(READ, "id")
    recorder.add(READ, "id", amount=2)
    recorder.observe(TIMES, 0.5)
    assert recorder.drain() == ({(READ, ("id",)): 3}, {(TIMES, ()): [0.5]})
    assert recorder.drain() == ({}, {})


def test_a_series_that_does_not_exist_from_the_start_is_not_counted() -> None:
    with pytest.raises(AssertionError):
        Recorder().add(READ, "inputs")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_series_has_all_labels(metric: Metric) -> None:
    assert all(len(labels) == len(metric.labels) for labels in metric.series)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_documented(metric: Metric) -> None:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    assert f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |" in DOCS
