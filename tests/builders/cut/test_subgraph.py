"""Parts of graphs: sizes read anew from their own inputs, tensors that only pass through, and the batch put first."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cleave.builders.cut.subgraph import ExtractError, extract_graph
from cleave.builders.onnx_graph.batch_axis import batch_axis_of
from cleave.builders.onnx_graph.random_inputs import Arrays
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.onnx_graph.sizes import Size
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


# Layouts

DIMS: tuple[str | int, ...] = ("history", 2, 3)


@st.composite
def shapes(draw_value: st.DrawFn) -> tuple[list[Size], list[int]]:
    """Dims with the batch, or a multiple of it, somewhere among others; and their sizes for 5 users."""
    others = draw_value(st.lists(st.sampled_from(DIMS), max_size=3))
    factor = draw_value(st.sampled_from([1, 1, 2, 3]))
    place = draw_value(st.integers(0, len(others)))
    dims = [Size.of(dim) for dim in others]
    dims.insert(place, Size.of(factor) * Size.of("batch"))
    return dims, [size.at({"batch": 5, "history": 4}) for size in dims]


def batch_first(array: NDArray[np.float64], dims: list[Size]) -> NDArray[np.float64]:
    axis = batch_axis_of(dims)
    assert axis is not None
    return array.reshape([size.at({"batch": 5, "history": 4}) for size in axis.unfolded]).transpose(axis.to_first)


@given(shapes())
def test_putting_the_batch_first_can_be_undone(case: tuple[list[Size], list[int]]) -> None:
    dims, sizes = case
    axis = batch_axis_of(dims)
    assert axis is not None
    array = np.arange(np.prod(sizes), dtype=np.float64).reshape(sizes)
    kept = batch_first(array, dims)
    assert [size.at({"batch": 5, "history": 4}) for size in axis.batch_first] == list(kept.shape)
    assert kept.shape[0] == 5
    np.testing.assert_array_equal(kept.transpose(axis.from_first).reshape(sizes), array)


@given(shapes())
def test_rows_of_the_batch_axis_are_users(case: tuple[list[Size], list[int]]) -> None:
    """Users lie outside what they share an axis with."""
    dims, sizes = case
    place = next(place for place, size in enumerate(dims) if "batch" in size.axes)
    users = np.arange(5).repeat(sizes[place] // 5)
    array = np.broadcast_to(users.reshape([-1 if at == place else 1 for at in range(len(sizes))]), sizes)
    kept = batch_first(array.astype(np.float64), dims)
    for user in range(5):
        assert (kept[user] == user).all()


@pytest.mark.parametrize(
    "dims",
    [
        [],
        [Size.of(4)],
        [Size.of("history"), Size.of(4)],
        [Size.of("batch") * Size.of("history"), Size.of(4)],
        [Size.of("batch"), Size.of("batch")],
        [Size.of("batch") + Size.of(1)],
    ],
)
def test_what_is_not_one_row_per_user_has_no_batch_axis(dims: list[Size]) -> None:
    assert batch_axis_of(dims) is None
