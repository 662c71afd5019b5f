"""Sizes written back into a graph as nodes that compute them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.onnx_graph.size_nodes import COPY, INFER, AxisSource, MissingAxisError, SizeNodes, reshape_target
from cleave.builders.onnx_graph.sizes import Size
from tests.builders.onnx_graph.strategies import AXES, sizes


def run_sizes(nodes: list[Size | int], dtype: str = "int64") -> list[int]:
    """What nodes for these sizes compute for a tensor [2, 3, 5] of batch, history and candidates."""
    given = gs.Variable("given", np.float32, list(AXES))
    written = gs.Graph(inputs=[given], opset=20, ir_version=10)
    maker = SizeNodes(written, {axis: AxisSource(given, place) for place, axis in enumerate(AXES)}, "test")
    made = maker.vector(nodes, np.dtype(dtype))
    output = gs.Variable("output", np.dtype(dtype), [len(nodes)])
    written.nodes.append(gs.Node("Identity", "output", {}, [made], [output]))
    written.outputs = [output]
    model = gs.export_onnx(written.toposort())
    onnx.checker.check_model(model)
    result = OnnxRunner(model)({"given": np.zeros((2, 3, 5), np.float32)})["output"]
    assert result.dtype == dtype
    assert result.shape == (len(nodes),)
    return [int(entry) for entry in result]


@given(st.lists(sizes(), min_size=1, max_size=4))
def test_nodes_compute_what_the_size_is(wanted: list[Size]) -> None:
    point = {"batch": 2, "history": 3, "candidates": 5}
    assert run_sizes(list(wanted)) == [size.at(point) for size in wanted]


def test_nodes_in_other_types() -> None:
    assert run_sizes([Size.of("history"), 7], "int32") == [3, 7]
    assert run_sizes([7, 8], "int32") == [7, 8]


def test_an_axis_that_no_tensor_has() -> None:
    nodes = SizeNodes(gs.Graph(), {}, "test")
    assert nodes.vector([3]).values.tolist() == [3]
    with pytest.raises(MissingAxisError, match="history"):
        nodes.vector([Size.of("history")])


@pytest.mark.parametrize(
    ("given_dims", "wanted", "expected"),
    [
        (["batch", "history", 4], ["batch", "history", 2, 2], [COPY, COPY, 2, 2]),
        (["batch", 2, "history", 2], ["batch", "history", 4], [COPY, INFER, 4]),
        (["batch", "history", 4], ["history", "batch", 4], ["history", "batch", 4]),
        (["history"], [1, "history"], [1, INFER]),
        (["batch", 4], [4, 4], [4, 4]),
    ],
)
def test_targets_of_reshapes_read_as_few_sizes_as_possible(
    given_dims: list[str | int], wanted: list[str | int], expected: list[str | int]
) -> None:
    target = reshape_target([Size.of(dim) for dim in given_dims], [Size.of(dim) for dim in wanted])
    plain = [entry if isinstance(entry, int) else entry.axis or entry.constant for entry in target]
    assert plain == expected
