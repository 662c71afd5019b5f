from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from cleave.serving.onnx.explain_failure import GraphInputs
from tests.serving import toy


def _message(file: Path, inputs: toy.Arrays) -> str:
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match="ONNXRuntimeError") as caught:
        session.run(None, inputs, options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["history_items", "request_hour", "candidate_items"])
def test_the_input_that_a_lookup_refuses_is_named(name: str, repository: Path, rng: np.random.Generator) -> None:
    file = repository / "toy_whole" / "1" / "model.onnx"
    inputs = toy.graph_inputs(toy.request(rng))
    inputs[name].flat[-1] = 1000
    most = toy.NUM_HOURS - 1 if name == "request_hour" else toy.NUM_ITEMS - 1
    assert (
        GraphInputs(file).explain(_message(file, inputs), inputs)
        == f"input '{name}': expected ids from {-most - 1} to {most}, got 1000; send ids that the model knows"
    )


@pytest.mark.parametrize("name", ["history_items", "request_hour", "candidate_items"])
def test_without_names_of_nodes_the_value_tells_the_input(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    model = toy.graph("toy_whole")
    for node in model.graph.node:
        node.name = ""
    file = tmp_path / "model.onnx"
    onnx.save(model, str(file))
    inputs = toy.graph_inputs(toy.request(rng))
    inputs[name].flat[-1] = -1000
    explained = GraphInputs(file).explain(_message(file, inputs), inputs)
    assert explained is not None
    assert explained.startswith(f"input '{name}': expected ids from -")
    assert "got -1000;" in explained


def test_shapes_that_a_node_refuses_name_what_reaches_the_node(repository: Path, rng: np.random.Generator) -> None:
    file = repository / "toy_whole" / "1" / "model.onnx"
    inputs = toy.graph_inputs(toy.request(rng)) | {"history_weights": np.ones((1, 3), np.float32)}
    explained = GraphInputs(file).explain(_message(file, inputs), inputs)
    assert explained is not None
    assert explained.startswith("input 'history_items' or 'history_weights': ")


def test_an_input_that_the_session_refuses_is_named(repository: Path, rng: np.random.Generator) -> None:
    file = repository / "toy_whole" / "1" / "model.onnx"
    inputs = toy.graph_inputs(toy.request(rng)) | {"candidate_items": np.zeros((1, 8, 1), np.int64)}
    explained = GraphInputs(file).explain(_message(file, inputs), inputs)
    assert explained is not None
    assert explained.startswith("input 'candidate_items': ")


@pytest.mark.parametrize(
    "message",
    [
        "std::bad_alloc",
        "Non-zero status code returned while running Mul node. Name:'encoder_weigh' Status Message: Failed to allocate "
        "memory for requested buffer of size 8",
    ],
)
def test_what_the_inputs_did_not_cause_is_not_blamed_on_them(message: str, repository: Path) -> None:
    assert GraphInputs(repository / "toy_whole" / "1" / "model.onnx").explain(message, {}) is None
