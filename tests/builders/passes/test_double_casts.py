"""Casts to a wider type and back."""

from __future__ import annotations

from cleave.builders.passes.double_casts import without_double_casts
from cleave.builders.passes.rounding import rounded
from tests.builders.graphs import assert_equal_graphs, graph, ops


def test_casts_there_and_back_are_left_out() -> None:
    model = graph(
        """
        half = Cast<to=10>(features)
        full = Cast<to=1>(half)
        again = Cast<to=10>(full)
        squared = Mul(again, again)
        whole = Cast<to=1>(squared)
        scores = ReduceSum<keepdims=0>(whole, last)
        """
    )
    assert ops(model).count("Cast") == 4
    assert ops(without_double_casts(model)).count("Cast") == 2
    assert_equal_graphs(rounded(model), rounded(without_double_casts(model)))


def test_casts_that_lose_something_stay() -> None:
    model = graph("half = Cast<to=10>(features) full = Cast<to=1>(half) scores = ReduceSum<keepdims=0>(full, last)")
    assert ops(without_double_casts(model)) == ops(model)
