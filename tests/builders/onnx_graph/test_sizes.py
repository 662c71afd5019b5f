"""Sizes as polynomials of the axes: their sums and products are those of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cleave.builders.onnx_graph.sizes import Size
from tests.builders.onnx_graph.strategies import AXES, sizes

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
