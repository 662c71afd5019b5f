from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from cleave.serving.errors import ModelError
from cleave.serving.onnx.session import open_session, run_options, session_options, yield_cpu
from tests.serving import toy


def _config(**parameters: str) -> dict[str, Any]:
    made = toy.config("toy_whole")
    for name, value in parameters.items():
        made.parameters[name].string_value = value
    return toy.triton_config(made)


def test_the_parameters_of_the_official_backend_are_read() -> None:
    options = session_options(
        _config(
            intra_op_thread_count="3",
            inter_op_thread_count="2",
            execution_mode="1",
            enable_mem_arena="0",
            enable_mem_pattern="0",
        ),
    )
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern


def test_a_pool_of_threads_does_not_spin_while_others_run() -> None:
    assert session_options(_config()).get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_process_yields_as_much_as_its_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    by: list[int] = []
    monkeypatch.setattr("cleave.serving.onnx.session.os.nice", by.append)
    yield_cpu(_config(cleave_nice="10"))
    yield_cpu(_config())
    assert by == [10, 0]
    with pytest.raises(ModelError, match=r"parameter 'cleave_nice': expected 0 to 19, got '20'; correct config.pbtxt"):
        yield_cpu(_config(cleave_nice="20"))


def test_the_defaults_are_those_of_onnx_runtime() -> None:
    made, default = session_options(_config()), onnxruntime.SessionOptions()
    for name in ("intra_op_num_threads", "inter_op_num_threads", "enable_cpu_mem_arena", "enable_mem_pattern"):
        assert getattr(made, name) == getattr(default, name)
    assert made.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert made.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


@pytest.mark.parametrize(
    ("level", "expected"),
    [(-1, "ORT_ENABLE_BASIC"), (0, "ORT_ENABLE_ALL"), (1, "ORT_ENABLE_EXTENDED"), (2, "ORT_DISABLE_ALL")],
)
def test_the_optimization_level_means_what_it_means_to_the_official_backend(level: int, expected: str) -> None:
    made = toy.config("toy_whole")
    made.optimization.graph.level = level
    options = session_options(toy.triton_config(made))
    assert options.graph_optimization_level == getattr(onnxruntime.GraphOptimizationLevel, expected)


def test_the_arena_shrinks_if_asked_to() -> None:
    options = run_options(_config(**{"memory.enable_memory_arena_shrinkage": "cpu:0"}))
    assert options.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("intra_op_thread_count", "two", "a whole number"),
        ("execution_mode", "2", "0 to 1"),
        ("enable_mem_arena", "-1", "0 to 1"),
    ],
)
def test_a_parameter_that_is_no_such_number_is_refused(name: str, value: str, wanted: str) -> None:
    with pytest.raises(ModelError, match=f"'toy_whole': parameter '{name}': expected {wanted}, got '{value}'"):
        session_options(_config(**{name: value}))


def _rename_input(config: Any) -> None:
    config.input[0].name = "other"


def _drop_input(config: Any) -> None:
    del config.input[0]


def _rename_output(config: Any) -> None:
    config.output[0].name = "other"


def _change_type(config: Any) -> None:
    config.input[0].data_type = toy.config("toy_whole").input[1].data_type


def _change_rank(config: Any) -> None:
    config.input[0].dims.append(2)


def _change_dims(config: Any) -> None:
    next(entry for entry in config.input if entry.name == "candidate_tags").dims[1] = 4


def _no_reshape(config: Any) -> None:
    next(entry for entry in config.input if entry.name == "request_hour").ClearField("reshape")


def _no_batch(config: Any) -> None:
    config.max_batch_size = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rename_input, "inputs: expected those of the graph .* differ in history_items, other; build"),
        (_drop_input, "inputs: .* differ in history_items; build"),
        (_rename_output, "outputs: .* got other, which differ in other; build"),
        (_change_type, r"'history_items': expected TYPE_INT64 \[-1, -1\] as in the graph, got TYPE_FP32 \[-1, -1\]"),
        (
            _change_rank,
            r"'history_items': expected TYPE_INT64 \[-1, -1\] as in the graph, got TYPE_INT64 \[-1, -1, 2\]",
        ),
        (_change_dims, r"'candidate_tags': expected TYPE_FP32 \[-1, -1, 3\] .*, got TYPE_FP32 \[-1, -1, 4\]"),
        (_no_reshape, r"'request_hour': expected TYPE_INT64 \[-1\] .*, got TYPE_INT64 \[-1, 1\]"),
        (_no_batch, r"'history_items': expected TYPE_INT64 \[-1, -1\] .*, got TYPE_INT64 \[-1\]"),
    ],
)
def test_a_config_that_does_not_fit_its_graph_is_refused(
    change: Callable[[Any], None], message: str, repository: Path
) -> None:
    config = toy.config("toy_whole")
    change(config)
    with pytest.raises(ModelError, match=f"model 'toy_whole': .*{message}"):
        open_session(repository / "toy_whole" / "1" / "model.onnx", toy.triton_config(config))


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"model 'toy_whole': ONNX Runtime cannot load .*; build it anew"):
        open_session(file, _config())
