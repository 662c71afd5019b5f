"""The batch axis put first, wherever a graph has it, and put back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cleave.builders.onnx_graph.batch_axis import batch_axis_of
from cleave.builders.onnx_graph.sizes import Size

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
