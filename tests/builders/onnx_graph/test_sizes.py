"""Sizes as polynomials of the axes, found by running a graph, and written back as nodes."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleave.builders import Axis, Ranker, Tensor
from cleave.builders.onnx_graph.probe import probe
from cleave.builders.onnx_graph.random_inputs import draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner, RunError
from cleave.builders.onnx_graph.size_nodes import COPY, INFER, MissingAxisError, SizeNodes, reshape_target
from cleave.builders.onnx_graph.sizes import Size, product
from tests.builders.graphs import graph, ranker

AXES = ("batch", "history", "candidates")


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    """A sum of up to three products."""
    total = Size.of(0)
    for _ in range(draw(st.integers(0, 3))):
        axes = draw(st.lists(st.sampled_from(AXES), unique=True))
        total = total + product([Size.of(draw(st.integers(-3, 5))), *map(Size.of, axes)])
    return total


points = st.fixed_dictionaries({axis: st.integers(1, 9) for axis in AXES})


@given(sizes(), sizes(), points)
def test_sums_and_products_are_those_of_numbers(left: Size, right: Size, point: dict[str, int]) -> None:
    assert (left + right).at(point) == left.at(point) + right.at(point)
    assert (left * right).at(point) == left.at(point) * right.at(point)
    assert (left + right, left * right) == (right + left, right * left)
    assert left * Size.of(0) == Size.of(0)


def test_what_a_size_is_made_of() -> None:
    history, four = Size.of("history"), Size.of(4)
    assert (history.axis, history.constant, set(history.axes)) == ("history", None, {"history"})
    assert (four.axis, four.constant, set(four.axes)) == (None, 4, set())
    assert Size.of(0).constant == 0
    assert (four * history).axis is None
    assert [str(size) for size in (four, history, four * history, history + four, Size.of(0))] == [
        "4",
        "history",
        "4*history",
        "4 + history",
        "0",
    ]


def shapes(body: str, of: Ranker | None = None) -> dict[str, list[str]]:
    """The shape of every tensor of a graph; `?` where it is unknown."""
    known = probe(graph(body + REST), of or ranker())
    return {name: ["?" if size is None else str(size) for size in dims] for name, dims in known.dims.items()}


REST = " rest = ReduceSum<keepdims=0>(features, last) total = ReduceSum<keepdims=0>(profile, last) " + (
    "column = Unsqueeze(total, one) scores = Add(rest, column)"
)


def test_shapes_of_any_operators() -> None:
    found = shapes("""
        joint = Concat<axis=1>(events, features)
        t = Transpose<perm=[0,2,1]>(events)
        square = MatMul(features, t)
        flat = Reshape(events, last)
        twice = Concat<axis=1>(events, events)
        without_first = Slice(events, one, end, one)
    """)
    assert found["joint"] == ["batch", "candidates + history", "4"]
    assert found["square"] == ["batch", "candidates", "history"]
    assert found["flat"] == ["4*batch*history"]
    assert found["twice"] == ["batch", "2*history", "4"]
    assert found["without_first"] == ["batch", "-1 + history", "4"]
    assert found["ids"] == ["batch", "history"]


def test_sizes_that_are_no_polynomial_are_unknown() -> None:
    found = shapes("""
        newest = Slice(events, minus_two, end, one)
        real = Greater(ids, two)
        places = NonZero(real)
        everything = Reshape(events, last)
        pairs = Unsqueeze(everything, one)
        transposed = Unsqueeze(everything, zero)
        all_pairs = Mul(pairs, transposed)
        flat_pairs = Reshape(all_pairs, last)
    """)
    assert found["newest"] == ["batch", "?", "4"]
    assert found["places"] == ["2", "?"]
    assert found["all_pairs"] == ["4*batch*history", "4*batch*history"]
    assert found["flat_pairs"] == ["?"]


def test_a_slice_to_more_rows_than_small_histories_have_is_seen() -> None:
    long = dataclasses.replace(ranker().axes[0], max=4096, opt=256)
    model = graph("newest = Slice(events, zero, hundred, one)" + REST, hundred=[100])
    assert probe(model, with_history(long)).dims["newest"][1] is None


def with_history(axis: Axis) -> Ranker:
    user = tuple(
        dataclasses.replace(tensor, axes=tuple(axis if isinstance(entry, Axis) else entry for entry in tensor.axes))
        for tensor in ranker().user
    )
    return dataclasses.replace(ranker(), user=user)


@pytest.mark.parametrize("bounds", [(1, 1, 2), (1, 2, 2), (5, 5, 6), (3, 3, 1000), (5, 5, 5)])
def test_narrow_axes(bounds: tuple[int, int, int]) -> None:
    """Where an axis has but two sizes, both are run; one of a single size is a number."""
    of = with_history(Axis("history", *bounds))
    found = shapes("joint = Concat<axis=1>(events, features) t = Transpose<perm=[0,2,1]>(events)", of)
    history = "5" if bounds == (5, 5, 5) else "history"
    assert found["joint"] == ["batch", "candidates + history" if history == "history" else "5 + candidates", "4"]
    assert found["t"] == ["batch", "4", history]


def test_elements_of_shape_vectors() -> None:
    known = probe(
        graph(
            """
            n = Shape<start=1,end=2>(events)
            shape = Shape(features)
            twice = Add(n, n)
            vector = Concat<axis=0>(twice, shape, two)
            scalar = Squeeze(n)
            half = Div(n, two)
        """
            + REST
        ),
        ranker(),
    )
    assert [str(size) for size in known.values["vector"]] == ["2*history", "batch", "candidates", "4", "2"]
    assert [str(size) for size in known.values["scalar"]] == ["history"]
    assert "half" not in known.values
    assert known.dtypes["vector"] == np.int64


def test_sequences_of_tensors_have_no_shape() -> None:
    found = shapes("parts = SplitToSequence<axis=1>(events) again = ConcatFromSequence<axis=1>(parts)")
    assert "parts" not in found
    assert found["again"] == ["batch", "history", "4"]


def test_a_graph_that_fails_at_the_least_sizes_says_so() -> None:
    model = graph("wrong = Gather<axis=1>(events, five)" + REST, five=[5])
    with pytest.raises(RunError) as raised:
        probe(model, ranker())
    message = str(raised.value)
    assert message.startswith("the exported graph cannot be run on ids [1, 1], events [1, 1, 4], profile [1, 4]")
    assert message.endswith("make the module work for every size from min to max of each axis, or narrow the axis")


# Sizes written back


def run_sizes(nodes: list[Size | int], dtype: str = "int64") -> list[int]:
    """What nodes for these sizes compute for a tensor [2, 3, 5] of batch, history and candidates."""
    given = gs.Variable("given", np.float32, list(AXES))
    written = gs.Graph(inputs=[given], opset=20, ir_version=10)
    maker = SizeNodes(written, {axis: (given, place) for place, axis in enumerate(AXES)}, "test")
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


def test_probing_draws_within_the_spec() -> None:
    ids = draw_inputs(ranker(), {"history": 50, "candidates": 50}, 20, np.random.default_rng(0))["ids"]
    assert (ids.min(), ids.max()) == (0, 9)
    bool_ranker = dataclasses.replace(
        ranker(), request=(Tensor("flags", "bool", (3,)), Tensor("open_ids", "int32", ())), boundary=()
    )
    arrays = draw_inputs(bool_ranker, {"history": 2, "candidates": 2}, 50, np.random.default_rng(0))
    assert arrays["flags"].dtype == np.bool_
    assert arrays["open_ids"].dtype == np.int32
    assert arrays["open_ids"].shape == (50,)
    assert arrays["open_ids"].max() == 1
