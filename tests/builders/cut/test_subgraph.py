"""Parts of graphs: sizes read anew from their own inputs, and tensors that only pass through."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cleave.builders.cut.subgraph import ExtractError, extract_graph
from cleave.builders.onnx_graph.random_inputs import Arrays
from cleave.builders.onnx_graph.session import OnnxRunner
from tests.builders.graphs import analyzed, draw, graph

BODY = """
    n = Shape<start=1,end=2>(ids)
    m = Shape<start=1,end=2>(items)
    mapped = MatMul(events, w)
    counts = Concat<axis=0>(n, m)
    narrow = Cast<to=6>(n)
    as_float = Cast<to=1>(n)
    scaled = Mul(mapped, as_float)
    narrow_float = Cast<to=1>(narrow)
    twice = Mul(scaled, narrow_float)
    rest = ReduceSum<keepdims=0>(features, last)
    total = ReduceSum<keepdims=1>(profile, one)
    per_event = Mul(total, as_float)
    scores = Add(rest, total)
"""


def part(inputs: list[str], outputs: dict[str, str], renamed: dict[str, str] | None = None) -> onnx.ModelProto:
    model = graph(BODY)
    probe, labels = analyzed(model)
    made = extract_graph(model, labels, probe, inputs, outputs, renamed or {}, "a_part")
    onnx.checker.check_model(made, full_check=True)
    return made


def run(model: onnx.ModelProto, inputs: Arrays) -> Arrays:
    return OnnxRunner(model)(inputs)


def test_a_part_reads_sizes_from_its_own_inputs() -> None:
    made = part(["events"], {"twice": "out"})
    assert [node.input[0] for node in made.graph.node if node.op_type == "Shape"] == ["events"]
    inputs = draw(2, 5, 3)
    w = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    np.testing.assert_allclose(run(made, inputs)["out"], inputs["events"] @ w * 25, rtol=1e-5)


def test_a_part_begins_where_it_is_told() -> None:
    made = part(["scaled"], {"twice": "out"}, {"scaled": "summary"})
    assert [entry.name for entry in made.graph.input] == ["summary"]
    given = np.ones((2, 7, 4), np.float32)
    np.testing.assert_array_equal(run(made, {"summary": given})["out"], given * 7)


def test_inputs_and_outputs_have_names_types_and_axes() -> None:
    made = part(["events", "profile"], {"mapped": "kept"})
    assert made.graph.name == "a_part"
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*made.graph.input, *made.graph.output)
    }
    assert shapes == {"events": ["batch", "history", 4], "profile": ["batch", 4], "kept": ["batch", "history", 4]}


def test_tensors_that_pass_through_once_or_twice() -> None:
    made = part(["events"], {"events": "same"})
    inputs = draw(2, 5, 3)
    np.testing.assert_array_equal(run(made, inputs)["same"], inputs["events"])


def test_weights_that_a_part_does_not_read_are_left_out() -> None:
    assert [tensor.name for tensor in part(["profile"], {"total": "out"}).graph.initializer] == ["one"]


def test_a_size_that_no_input_has() -> None:
    with pytest.raises(
        ExtractError, match=r"a_part: n reads the size of axis 'history', expected one of its inputs \(profile"
    ):
        part(["profile"], {"per_event": "out"})
