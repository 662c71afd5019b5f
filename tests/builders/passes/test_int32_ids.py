"""What an engine computes in int32 is what the graph computes in int64, for every value of the inputs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from cleave.builders.onnx_graph.edit import element_types
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes.exact_int64 import exact_int64
from cleave.builders.passes.int32_ids import int32_inside
from tests.builders.graphs import assert_equal_graphs, draw, graph
from tests.builders.integer_graphs import edge_inputs, integer_graphs


def int64_nodes(model: onnx.ModelProto) -> dict[str, int]:
    types = element_types(model)
    return Counter(node.op_type for node in model.graph.node if any(types[n] == TensorProto.INT64 for n in node.output))


LOOKUP = """
    low = Less(ids, two)
    high = Greater(ids, nine)
    unknown = Or(low, high)
    known = Where(unknown, two, ids)
    above = Greater(known, two)
    flags = Cast<to=7>(above)
    counted = CumSum(flags, one)
    clipped = Min(counted, nine)
    shown = Max(clipped, known)
    found = Gather<axis=0>(table, shown)
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
        "Cast": 1,
        "CumSum": 1,
        "Min": 1,
        "Max": 1,
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
    drawn = draw(2, 3, 5)
    for name, expected in OnnxRunner(model)(drawn).items():
        np.testing.assert_array_equal(OnnxRunner(changed)(drawn)[name], expected)


def test_an_id_that_is_passed_on_is_not_touched() -> None:
    model = graph("kept = Identity(ids) scores = ReduceSum<keepdims=0>(features, last)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("kept", TensorProto.INT64, ["batch", "history"]))
    assert [node.op_type for node in int32_inside(model).graph.node] == ["Identity", "ReduceSum"]


END = """
    found = Gather<axis=0>(table, x)
    vector = ReduceSum<keepdims=1>(found, one)
    joined = Mul(features, vector)
    scores = ReduceSum<keepdims=0>(joined, last)
"""


@settings(max_examples=25, deadline=None)
@given(integer_graphs(), st.integers(0, 1000))
def test_no_score_changes(model: onnx.ModelProto, seed: int) -> None:
    model = exact_int64(model)
    changed = int32_inside(model)
    before, after = (OnnxRunner(each)(edge_inputs(seed))["scores"] for each in (model, changed))
    np.testing.assert_array_equal(after, before)


def types_after(body: str, **constants: int) -> dict[str, int]:
    """The types of tensors once a graph is narrow, which then still scores the same."""
    model = graph(f"{body} {END}", **{name: np.array(value) for name, value in constants.items()})
    changed = int32_inside(model)
    for seed in range(5):
        before, after = (OnnxRunner(each)(edge_inputs(seed))["scores"] for each in (model, changed))
        np.testing.assert_array_equal(after, before)
    return element_types(changed)


def test_hashed_ids_stay_in_int64_up_to_the_remainder() -> None:
    types = types_after("mixed = Mul(ids, k) m = Mod(mixed, ten) x = Add(m, zero)", k=2654435761, ten=10)
    assert types["mixed"] == types["m"] == TensorProto.INT64
    assert types["x"] == TensorProto.INT32


def test_a_guarded_id_is_compared_in_int64_and_looked_up_in_int32() -> None:
    """An id of 2^32 + 5 is unknown; its lower half is not."""
    types = types_after(
        "low = Less(ids, none) high = Greater(ids, nine) o = Or(low, high) x = Where(o, nine, ids)", none=0, nine=9
    )
    assert types["x"] == TensorProto.INT32
    assert types["ids/int32"] == TensorProto.INT32


def test_small_remainders_are_computed_in_int32() -> None:
    types = types_after("a = Mod(ids, five) b = Mul(a, two) c = Add(a, b) x = Mod(c, ten)", five=5, ten=10)
    assert [types[name] for name in "bcx"] == [TensorProto.INT32] * 3


def test_the_lower_bits_of_a_hash_are_all_that_a_mask_needs() -> None:
    types = types_after("m = Mul(ids, k) x = BitwiseAnd(m, seven)", k=2654435761, seven=7)
    assert types["m"] == TensorProto.INT64
    assert types["x"] == TensorProto.INT32


def test_times_and_their_differences_stay_in_int64() -> None:
    types = types_after(
        "gap = Sub(now, ids) days = Div(gap, day) x = Mod(days, ten)", now=1_700_000_000_000, day=86_400_000, ten=10
    )
    assert types["gap"] == types["days"] == TensorProto.INT64


@pytest.mark.parametrize("value", [2**31, 2**40 + 3, -(2**31) - 1])
def test_no_constant_is_clipped(value: int) -> None:
    types = types_after("o = Equal(ids, k) i = Cast<to=7>(o) x = Mul(i, two)", k=value)
    assert types["x"] == TensorProto.INT32
    assert "k/int32" not in types
