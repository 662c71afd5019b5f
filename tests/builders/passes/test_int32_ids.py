"""int32 inside: ids are cast once, and only shapes stay int64."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto

from cleave.builders.onnx_graph.edit import element_types
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes.int32_ids import int32_inside
from tests.builders.graphs import assert_equal_graphs, draw, graph


def int64_nodes(model: onnx.ModelProto) -> dict[str, int]:
    types = element_types(model)
    return Counter(node.op_type for node in model.graph.node if any(types[n] == TensorProto.INT64 for n in node.output))


LOOKUP = """
    unknown = Less(ids, two)
    known = Where(unknown, two, ids)
    counted = CumSum(known, one)
    clipped = Min(counted, nine)
    found = Gather<axis=0>(table, clipped)
    history_size = Shape<start=1, end=2>(ids)
    start = Squeeze(history_size, zero)
    places = Range(zero_scalar, start, one_scalar)
    newest = ReduceMax<keepdims=0>(places, zero)
    floats = Cast<to=1>(newest)
    read = ReduceMean<keepdims=0>(found, one)
    rows = Unsqueeze(read, one)
    products = Mul(features, rows)
    summed = ReduceSum<keepdims=0>(products, last)
    scores = Add(summed, floats)
"""


def lookup() -> onnx.ModelProto:
    return graph(LOOKUP, nine=np.array(9), zero_scalar=np.array(0), one_scalar=np.array(1))


def test_ids_are_cast_once_and_only_shapes_stay_int64() -> None:
    model = lookup()
    assert int64_nodes(model) == {
        "Where": 1,
        "CumSum": 1,
        "Min": 1,
        "Shape": 1,
        "Squeeze": 1,
        "Range": 1,
        "ReduceMax": 1,
    }
    changed = int32_inside(model)
    assert int64_nodes(changed) == {"Shape": 1}
    casts = [node.input[0] for node in changed.graph.node if node.op_type == "Cast" and node.input[0] == "ids"]
    assert casts == ["ids"]
    assert_equal_graphs(model, changed)


def test_int64_outputs_stay_int64_and_operators_that_give_nothing_else_are_cast() -> None:
    model = graph(
        """
        best = ArgMax<axis=1, keepdims=0>(features)
        more = Add(best, one)
        floats = Cast<to=1>(more)
        column = ReduceMax<keepdims=1>(floats, one)
        summed = ReduceSum<keepdims=0>(features, last)
        scores = Add(summed, column)
        """
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("more", TensorProto.INT64, ["batch", 4]))
    changed = int32_inside(model)
    types = element_types(changed)
    assert types["more"] == TensorProto.INT64
    assert types["more/int32"] == TensorProto.INT32
    given = draw(2, 3, 5)
    for name, expected in OnnxRunner(model)(given).items():
        np.testing.assert_array_equal(OnnxRunner(changed)(given)[name], expected)


def test_an_id_that_is_passed_on_is_not_touched() -> None:
    model = graph("kept = Identity(ids) scores = ReduceSum<keepdims=0>(features, last)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("kept", TensorProto.INT64, ["batch", "history"]))
    assert [node.op_type for node in int32_inside(model).graph.node] == ["Identity", "ReduceSum"]
