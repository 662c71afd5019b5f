"""One sequence of history and candidates is computed apart, wherever operators allow it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from cleave.builders.cut.cut import split
from cleave.builders.cut.joint_sequence import split_rows
from tests.builders.graphs import analyzed, assert_equal_graphs, assert_parts_equal_whole, graph, ranker

JOINED = """
    n = Shape<start=1,end=2>(events)
    m = Shape<start=1,end=2>(features)
    rows = Concat<axis=1>(events, features)
"""
TAKEN = """
    own = Slice(done, n, end, one)
    vector = ReduceSum<keepdims=0>(mapped_events, one)
    row = Unsqueeze(vector, one)
    joined = Mul(own, row)
    scores = ReduceSum<keepdims=0>(joined, last)
"""
"""The candidates' rows of `done` [B, N + M, D], and something of the user's, so that there is a cut."""

USER = " mapped_events = MatMul(events, w)"


def split_apart(steps: str, taken: str = TAKEN, **weights: NDArray[Any]) -> onnx.ModelProto:
    """The graph with its rows apart; equal to what it was, with parts equal to the whole."""
    whole = graph(JOINED + steps + USER + taken, **weights)
    made = split(whole, ranker())
    assert_parts_equal_whole(made)
    apart = made.analysis.model
    onnx.checker.check_model(apart, full_check=True)
    assert_equal_graphs(whole, apart)
    return apart


def reads_together(model: onnx.ModelProto) -> bool:
    """Whether any tensor of the graph has rows of history and of candidates along one axis."""
    probe, _ = analyzed(model)
    shapes = [probe.shape(name) or () for node in model.graph.node for name in node.output]
    return any(size.axes >= {"history", "candidates"} for shape in shapes for size in shape)


ROW_BY_ROW = {
    "elementwise": "done = Tanh(rows)",
    "with a constant": "a = Mul(rows, half) done = Add(bias, a)",
    "with itself": "a = Tanh(rows) done = Add(rows, a)",
    "normalized": "done = LayerNormalization<axis=-1>(rows, bias, bias)",
    "softmax": "done = Softmax<axis=-1>(rows)",
    "cumulated": "done = CumSum(rows, last_scalar)",
    "product": "a = MatMul(rows, w) done = Add(a, bias)",
    "product of columns": "a = Transpose<perm=[0,2,1]>(rows) b = MatMul(w, a) done = Transpose<perm=[0,2,1]>(b)",
    "unsqueezed": "a = Unsqueeze(rows, one) b = Tanh(a) done = Squeeze(b, one)",
    "unsqueezed at the end": "a = Unsqueeze(rows, last) b = Tanh(a) done = Squeeze(b, last)",
    "cast": "a = Cast<to=11>(rows) b = Tanh(a) done = Cast<to=1>(b)",
    "heads": (
        "a = Reshape(rows, heads) b = Transpose<perm=[0,2,1,3]>(a) c = Softmax<axis=-1>(b) "
        "d = Transpose<perm=[0,2,1,3]>(c) done = Reshape(d, merged)"
    ),
    "reduced": "a = ReduceMax<keepdims=1>(rows, last) done = Sub(rows, a)",
    "reduced before": (
        "a = Reshape(rows, heads) b = Transpose<perm=[0,2,1,3]>(a) c = ReduceMax<keepdims=0>(b, one) "
        "done = Concat<axis=2>(c, c)"
    ),
    "reduced away": "a = ReduceMax<keepdims=0>(rows, last) b = Unsqueeze(a, last) done = Sub(rows, b)",
    "concatenated": "a = Tanh(rows) b = Concat<axis=2>(rows, a) done = MatMul(b, tall)",
    "sliced": "a = Concat<axis=2>(rows, rows) done = Slice(a, two, six, last)",
    "split": "a, b = Split<axis=-1,num_outputs=2>(rows) done = Concat<axis=-1>(b, a)",
    "selected": "a = Reshape(rows, heads) b = Gather<axis=2>(a, one_scalar) done = Concat<axis=2>(b, b)",
    "selected before": "a = Reshape(rows, heads) b = Transpose<perm=[2,0,1,3]>(a) c = Gather<axis=0>(b, one_scalar) "
    "done = Concat<axis=2>(c, c)",
    "masked": "a = Greater(rows, half) done = Where(a, rows, half)",
    "clipped": "done = Clip(rows, half)",
    "sliced and read": (
        "keys = Slice(rows, zero, n, one) k = Transpose<perm=[0,2,1]>(keys) a = MatMul(rows, k) "
        "b = Softmax<axis=-1>(a) done = MatMul(b, keys)"
    ),
    "taken apart in every layer": (
        "a = Tanh(rows) b = Slice(a, n, end, one) c = Slice(a, zero, n, one) d = Concat<axis=1>(c, b) e = Exp(d) "
        "f = Slice(e, n, end, one) g = Slice(e, zero, n, one) h = Concat<axis=1>(g, f) done = Tanh(h)"
    ),
    "from the end": "minus_m = Neg(m) a = Slice(rows, minus_m, end, one) done = Concat<axis=1>(events, a)",
    "split in two": "sizes = Concat<axis=0>(n, m) a, b = Split<axis=1>(rows, sizes) done = Concat<axis=1>(a, b)",
    "along another axis": "a = Slice(rows, one, end, two) b = ReduceSum<keepdims=1>(a, two) done = Add(rows, b)",
}

WEIGHTS: dict[str, Any] = {
    "half": np.array(0.5, np.float32),
    "bias": np.array([0.5, 1, -1, 2], np.float32),
    "last_scalar": np.array(-1),
    "one_scalar": np.array(1),
    "heads": np.array([0, -1, 2, 2]),
    "merged": np.array([0, -1, 4]),
    "tall": np.ones((8, 4), np.float32),
    "six": np.array([6]),
}


@pytest.mark.parametrize("way", ROW_BY_ROW)
def test_operators_on_rows_run_once_for_each_part(way: str) -> None:
    assert not reads_together(split_apart(ROW_BY_ROW[way], **WEIGHTS))


TOGETHER = {
    "normalized along the rows": "done = Softmax<axis=1>(rows)",
    "cumulated along the rows": "done = CumSum(rows, one_scalar)",
    "summed": "a = ReduceSum<keepdims=1>(rows, one) done = Add(rows, a)",
    "added to a sequence in another order": "other = Concat<axis=1>(features, events) done = Add(rows, other)",
    "sliced within a part": "a = Slice(rows, one, end, one) b = Slice(a, zero, one, one) done = Concat<axis=1>(a, b)",
    "reversed": "done = Slice(rows, last, start, one, last)",
    "read by every row": (
        "k = Transpose<perm=[0,2,1]>(rows) a = MatMul(rows, k) b = Softmax(a) done = MatMul(b, rows)"
    ),
    "reinterpreted": "a = Reshape(rows, turned) b = Softmax<axis=1>(a) c = Shape(rows) done = Reshape(b, c)",
    "mixed by a matrix": (
        "s = Add(n, m) square = Concat<axis=0>(s, s) mixing = Expand(half, square) done = MatMul(mixing, rows)"
    ),
    "mixed by a matrix from the right": (
        "s = Add(n, m) square = Concat<axis=0>(s, s) mixing = Expand(half, square) "
        "a = Transpose<perm=[0,2,1]>(rows) b = MatMul(a, mixing) done = Transpose<perm=[0,2,1]>(b)"
    ),
    "weighed by a column": (
        "s = Add(n, m) column = Concat<axis=0>(s, one) weighing = Expand(half, column) "
        "a = Transpose<perm=[0,2,1]>(rows) b = MatMul(a, weighing) c = Transpose<perm=[0,2,1]>(b) done = Add(rows, c)"
    ),
    "normalized over columns and rows": (
        "s = Add(n, m) shape = Concat<axis=0>(four, s) scale = Expand(half, shape) "
        "a = Transpose<perm=[0,2,1]>(rows) b = LayerNormalization<axis=1>(a, scale) "
        "done = Transpose<perm=[0,2,1]>(b)"
    ),
    "multiplied by a matrix of their own": (
        "s = Add(n, m) shape = Concat<axis=0>(s, two, two) own_matrices = Expand(half, shape) "
        "a = Reshape(rows, heads) b = MatMul(a, own_matrices) done = Reshape(b, merged)"
    ),
    "normalized over rows and columns": (
        "s = Add(n, m) shape = Concat<axis=0>(s, four) scale = Expand(half, shape) "
        "done = LayerNormalization<axis=1>(rows, scale)"
    ),
    "flattened": "a = Reshape(rows, flat) b = Tanh(a) c = Shape(rows) done = Reshape(b, c)",
}


@pytest.mark.parametrize("way", TOGETHER)
def test_operators_that_need_rows_together_get_them_together(way: str) -> None:
    weights = {
        **WEIGHTS,
        "flat": np.array([-1, 4]),
        "turned": np.array([0, 4, -1]),
        "four": np.array([4]),
        "start": np.array([np.iinfo(np.int64).min]),
    }
    assert reads_together(split_apart(TOGETHER[way], **weights))


def test_ids_that_were_concatenated_look_up_a_table_apart() -> None:
    apart = split_apart("""
        joint_ids = Concat<axis=1>(ids, items)
        a = Gather(table, joint_ids)
        b = Slice(a, zero, n, one)
        c = ReduceMax<keepdims=1>(b, one)
        done = Add(a, c)
    """)
    assert sorted(node.input[1] for node in apart.graph.node if node.op_type == "Gather") == ["ids", "items"]


def test_masks_over_both_are_taken_apart() -> None:
    apart = split_apart(
        """
        real = Greater(ids, two)
        candidates = Greater(items, zero)
        mask = Concat<axis=1>(real, candidates)
        column = Unsqueeze(mask, last)
        done = Where(column, rows, half)
    """,
        **WEIGHTS,
    )
    assert not reads_together(apart)


def test_a_mask_made_of_sizes_meets_each_part_with_its_rows() -> None:
    """A [N + M, N] matrix that no data is in: its rows are sliced for each part, and so are the rows that read."""
    apart = split_apart(
        """
        keys = Slice(rows, zero, n, one)
        k = Transpose<perm=[0,2,1]>(keys)
        weights = MatMul(rows, k)
        count = Add(n, m)
        count_scalar = Squeeze(count)
        places = Range(zero_scalar, count_scalar, one_scalar)
        down = Unsqueeze(places, one)
        across = Slice(places, zero, n, zero)
        earlier = LessOrEqual(across, down)
        masked = Where(earlier, weights, half)
        done = MatMul(masked, keys)
    """,
        zero_scalar=np.array(0),
        **WEIGHTS,
    )
    assert not any("/joined" in name for node in apart.graph.node for name in node.input)


def test_the_history_rows_of_the_last_layer_fall_away() -> None:
    apart = split_apart("a = MatMul(rows, w) done = MatMul(a, w)")
    _, labels = analyzed(apart)
    products = [node.output[0] for node in apart.graph.node if node.op_type == "MatMul"]
    assert [name for name in products if labels.is_only("user", name)] == ["mapped_events"]


def test_an_output_that_is_a_slice_keeps_its_name() -> None:
    apart = split_apart(
        "mapped = MatMul(rows, w) sums = ReduceSum<keepdims=0>(mapped, last) ",
        """
        pooled = ReduceSum<keepdims=0>(mapped_events, one)
        total = ReduceSum<keepdims=1>(pooled, one)
        shifted = Add(sums, total)
        scores = Slice(shifted, n, end, one)
    """,
    )
    assert [output.name for output in apart.graph.output] == ["scores"]
    assert not reads_together(apart)


def test_a_sequence_that_is_never_taken_apart_is_left_as_it_is() -> None:
    whole = graph(
        "rows = Concat<axis=1>(events, features) a = Tanh(rows) b = ReduceSum<keepdims=1>(a, one) "
        "c = Mul(features, b) scores = ReduceSum<keepdims=0>(c, last)"
    )
    probe, labels = analyzed(whole)
    assert split_rows(whole, probe, labels) is whole


def test_a_sequence_of_one_role_is_left_as_it_is() -> None:
    whole = graph(
        "a = Concat<axis=1>(features, features) m = Shape<start=1,end=2>(features) b = Slice(a, zero, m, one) "
        "c = ReduceSum<keepdims=1>(events, one) d = Mul(b, c) scores = ReduceSum<keepdims=0>(d, last)"
    )
    probe, labels = analyzed(whole)
    assert split_rows(whole, probe, labels) is whole


def test_three_parts() -> None:
    apart = split_apart("""
        token = Unsqueeze(profile, one)
        sequence = Concat<axis=1>(token, events, features)
        a = Tanh(sequence)
        done = Slice(a, one, end, one)
    """)
    assert not reads_together(apart)


def test_parts_of_parts() -> None:
    apart = split_apart("""
        token = Unsqueeze(profile, one)
        sequence = Concat<axis=1>(token, rows)
        a = Tanh(sequence)
        done = Slice(a, one, end, one)
    """)
    assert not reads_together(apart)
