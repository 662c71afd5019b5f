"""Engines are compared with ONNX Runtime; here ONNX Runtime has both roles, and a changed graph is the engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from polygraphy.backend.onnxrt import OnnxrtRunner
from polygraphy.exception import PolygraphyException

from cleave.builders.contract.engine_record import Bounds, EngineRecord
from cleave.builders.contract.manifest import read_manifest
from cleave.builders.cut.cut import Cut
from cleave.builders.cut.narrow import narrowed
from cleave.builders.names import ONNX_FILE, model_names
from cleave.builders.repository import write_repository
from cleave.builders.targets.target import Built, BuiltEngine, EngineRunner
from cleave.builders.targets.tensorrt.forms import profiles_of_cut
from cleave.builders.targets.tensorrt.target import TENSORRT
from cleave.builders.targets.tensorrt.verify import (
    VerifyError,
    cases_for,
    engines_of_repository,
    onnx_runner,
    verify_engines,
)

if TYPE_CHECKING:
    from cleave.builders.targets.tensorrt.verify import TestedEngine  # pytest would collect a class of that name

Change = Callable[[Path, onnx.ModelProto], None]


def built_engines(cut: Cut) -> Built:
    """Records of engines that are none, with the profiles of real ones."""
    records = {
        name: EngineRecord("model.plan", "", "11.1.0.106", "8.9", False, False, [each.bounds() for each in profiles])
        for name, profiles in profiles_of_cut(cut).items()
    }
    engines = {name: BuiltEngine(b"", record) for name, record in records.items()}
    return Built(TENSORRT.name, engines, TENSORRT.configs(cut))


def onnx_runtime(change: Change = lambda file, graph: None) -> Callable[[Path], EngineRunner]:
    """Runs the graph beside the engine's file in its place."""

    def runner(file: Path) -> EngineRunner:
        graph = onnx.load(file.with_name(ONNX_FILE))
        change(file, graph)
        return lambda profile: onnx_runner(graph)

    return runner


def engines(cut: Cut, folder: Path, change: Change = lambda file, graph: None) -> list[TestedEngine]:
    write_repository(cut, folder, "cleave build small", built_engines(cut))
    manifests = [read_manifest(folder / model) for model in model_names(cut.ranker.name)]
    return engines_of_repository(folder, manifests, onnx_runtime(change))


def other_weights(of: str) -> Change:
    def change(file: Path, graph: onnx.ModelProto) -> None:
        if file.parents[1].name == of:
            weights = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
            weights.CopyFrom(numpy_helper.from_array(1.01 * numpy_helper.to_array(weights), weights.name))

    return change


def test_equal_parts_are_verified(small_cut: Cut, tmp_path: Path) -> None:
    made = engines(small_cut, tmp_path)
    assert [part.name for part in made] == ["small_whole", "small_history_encoder", "small_candidate_scorer"]
    cases = cases_for(small_cut.ranker, made)
    assert [case.sizes["batch"] for case in cases] == [1, 3, 1, 2, 1]
    verified = list(verify_engines(made, cases))
    assert [each.part for each in verified] == [part.name for part in made]
    for each in verified:
        assert each.num_cases == len(cases)
        assert each.difference == 0
        assert each.tolerance == 1e-5


@pytest.mark.parametrize(("part", "output"), [("small_history_encoder", "key"), ("small_candidate_scorer", "scores")])
def test_a_changed_part_is_named_with_its_output(part: str, output: str, small_cut: Cut, tmp_path: Path) -> None:
    made = engines(small_cut, tmp_path, other_weights(part))
    with pytest.raises(
        VerifyError,
        match=rf"^{part} \(batch \d, history \d+, candidates \d+\): output '{output}' at \[.*\]: expected \S+, "
        r"got \S+, a difference of \S+ where 1e-05 is allowed for float32; build it again",
    ):
        list(verify_engines(made, cases_for(small_cut.ranker, made)))


def test_every_case_runs_in_a_profile_that_holds_it(small_cut: Cut, tmp_path: Path) -> None:
    (whole, *others), asked = engines(small_cut, tmp_path), []

    def runner(profile: int) -> Any:
        asked.append(profile)
        return whole.runner(profile)

    profiles: list[Bounds] = [{"batch": (1, 4), "history": (1, 5)}, {"batch": (1, 4), "history": (6, 12)}]
    engine = dataclasses.replace(whole, profiles=profiles, runner=runner)
    (verified,) = verify_engines([engine], cases_for(small_cut.ranker, [engine, *others]))
    assert verified.num_cases == 5
    assert asked == [0, 1]


def test_sixteen_bits_are_compared_within_their_tolerance(small_cut: Cut, tmp_path: Path) -> None:
    cut = narrowed(small_cut, "float16")
    made = engines(cut, tmp_path)
    verified = list(verify_engines(made, cases_for(cut.ranker, made)))
    assert {each.tolerance for each in verified} == {5e-3}
    assert 0 < max(each.difference for each in verified) < 5e-3


def test_an_engine_for_fewer_users_gets_fewer(small_cut: Cut, tmp_path: Path) -> None:
    made = engines(small_cut, tmp_path)
    narrow = [
        dataclasses.replace(each, profiles=[{**bounds, "batch": (1, 2)} for bounds in each.profiles]) for each in made
    ]
    cases = cases_for(small_cut.ranker, narrow)
    assert max(case.sizes["batch"] for case in cases) == 2
    assert np.shape(cases[1].inputs["ids"])[0] == 2


def test_an_engine_that_does_not_run_is_named(small_cut: Cut, tmp_path: Path) -> None:
    def broken(profile: int) -> Any:
        return OnnxrtRunner(failing)

    def failing() -> Any:
        raise PolygraphyException("Could not deserialize engine.")

    whole, encoder, _ = engines(small_cut, tmp_path)
    cases = cases_for(small_cut.ranker, [whole, encoder])
    with pytest.raises(VerifyError, match=r"^small_whole \(batch 1, .*\): expected it to run, got: Could not"):
        list(verify_engines([dataclasses.replace(whole, runner=broken)], cases))
