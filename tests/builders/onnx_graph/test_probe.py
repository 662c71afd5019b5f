"""Sizes of the tensors of a graph, found by running it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cleave.builders import Axis, Ranker
from cleave.builders.onnx_graph.probe import probe
from cleave.builders.onnx_graph.session import RunError
from tests.builders.graphs import graph, ranker


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
