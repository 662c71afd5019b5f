"""A whole run with a real perf_analyzer against a real server, of a small model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cleave.builders.contract.manifest import fingerprint_of
from cleave.builders.triton.graphs import artifacts_of
from cleave.perf import bench
from cleave.perf.bench import BenchOptions, run_bench
from cleave.perf.errors import PerfError, ScoresDifferError
from cleave.perf.report.markdown import markdown_from_report
from cleave.perf.report.report import RunReport
from cleave.perf.run import rounds
from cleave.perf.run.analyzer_plan import AnalyzerPlan
from cleave.perf.run.arm_plan import Measurement
from cleave.perf.run.rounds import forget_rounds
from cleave.perf.run.subject import Subject
from cleave.perf.workload.workload import Workload, workload_from_dict
from cleave.serving.server.triton import TritonServer
from tests.perf.workload.test_workload import CONTENT
from tests.zoo_cuts import zoo_cut

ARMS = ["per_candidate", "single_pass", "uncached", "cached"]

pytestmark = pytest.mark.long


@pytest.fixture
def options(zoo_server: TritonServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BenchOptions:
    """Of a run on the server of the whole zoo, whose models it takes as they are."""

    def subject(name: str, size: str, repository: Path | None) -> Subject:
        cut = zoo_cut(name)
        fingerprint = fingerprint_of(model for model in artifacts_of(cut).values() if model is not None)
        return Subject(name, size, cut, zoo_server.repository, fingerprint, True)

    monkeypatch.setattr(bench, "subject_of", subject)
    return BenchOptions(tmp_path, "cleave bench test", url=zoo_server.grpc_url, metrics_url=zoo_server.metrics_url)


def workload(**change: Any) -> Workload:
    return workload_from_dict("test", {**CONTENT, "history": 16, "arms": ARMS, "rounds": 2, **change})


def test_every_arm_is_measured_and_counted(options: BenchOptions) -> None:
    report = run_bench(workload(cached_share=[0.5]), options)
    arms = report.models["append"].last.arms
    assert list(arms) == ARMS
    assert [arms[arm].requests for arm in ARMS] == [2, 20, 20, 20]
    assert arms["per_candidate"].messages == 4  # 32 candidates in batches of 16, in two rounds
    assert arms["cached"].hit_rate == 0.5
    assert arms["per_candidate"].ratio == 1
    for arm in arms.values():
        assert arm.candidates_per_s > 0
        assert arm.p50_ms <= arm.p99_ms
        assert arm.ratio is not None
        assert arm.ratio > 0
        assert arm.score_difference is not None
        assert arm.score_difference <= 1e-4
        # The stages are means, and add up to about what was measured from outside.
        assert arm.p50_ms / 2 < sum(arm.stages_ms.values()) < 2 * arm.p99_ms
    assert arms["cached"].server["append_history_encoder"].rows == 5
    assert RunReport.from_json(report.to_json()) == report
    assert arms["cached"].limit_ms is not None
    assert 0 < arms["cached"].limit_ms < arms["cached"].p50_ms
    assert report.versions["triton"].startswith("2.")
    assert "nvidia-pytriton" not in report.versions  # which did not start the server


def test_requests_at_a_rate_and_several_at_a_time(options: BenchOptions) -> None:
    report = run_bench(workload(arms=["cached"], rounds=1, concurrency=3, rate_per_s=50), options)
    points = report.models["append"].points
    assert [point.arms["cached"].requests for point in points] == [10, 10]
    # Ten requests at fifty a second: the rate limits what is served.
    assert points[1].arms["cached"].candidates_per_s < 5 * 50 * 32


def test_an_interrupted_run_goes_on_where_it_was(options: BenchOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = AnalyzerPlan.measure

    def interrupted_after(count: int) -> Callable[[AnalyzerPlan], Measurement]:
        def counting(plan: AnalyzerPlan) -> Measurement:
            nonlocal count
            if count == 0:
                raise KeyboardInterrupt
            count -= 1
            return measure(plan)

        return counting

    of = workload(arms=["single_pass", "cached"], rounds=2)
    with monkeypatch.context() as patched:
        patched.setattr(AnalyzerPlan, "measure", interrupted_after(3))
        with pytest.raises(KeyboardInterrupt):
            run_bench(of, options)
    (kept,) = (options.out / "rounds").iterdir()
    rate = json.loads(kept.read_text())["measurements"]["cached"]
    monkeypatch.setattr(AnalyzerPlan, "measure", interrupted_after(2))
    monkeypatch.setattr(rounds, "is_engine", lambda url, model: model == "append_whole")
    report = run_bench(of, options)
    arms = report.models["append"].last.arms
    rates = arms["cached"].candidates_per_s_of_rounds
    assert rates[0] == pytest.approx(rate["candidates"] / rate["seconds"])
    assert len(rates) == 2
    # Engines run where the processor's limits mean nothing.
    assert report.machine.limits is None
    assert {arm.limit_ms for arm in arms.values()} == {None}
    assert ", served as engines of TensorRT." in markdown_from_report(report)
    forget_rounds(options.out)
    assert not (options.out / "rounds").exists()


def test_what_the_last_model_does_not_take_is_said_before_the_first_is_measured(
    options: BenchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "measure_processor", lambda: pytest.fail("something was measured"))
    with pytest.raises(
        PerfError, match=r"candidates: expected 1 to 64, which concat takes, got 65; leave the model out"
    ):
        run_bench(workload(models=["append", "concat"], candidates=[1, 65]), options)


def test_other_scores_stop_the_run(options: BenchOptions) -> None:
    strict = dataclasses.replace(workload(arms=["single_pass"]), tolerance=-1.0)
    with pytest.raises(
        ScoresDifferError, match=r"arm 'single_pass': expected the scores of 'single_pass' within -1\.0, got"
    ):
        run_bench(strict, options)


def test_a_hit_rate_that_is_not_the_workloads_stops_the_run(
    options: BenchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cleave.perf.run.analyzer_plan.set_summaries", lambda *arguments: None)
    with pytest.raises(
        PerfError, match=r"hit rate: expected 100.0% as in the workload, got [0-9.]+% by the metrics port"
    ):
        run_bench(workload(arms=["cached"], seed=7, users=10_000, zipf=0), options)
