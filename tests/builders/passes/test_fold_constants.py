"""Constants are folded."""

from __future__ import annotations

from cleave.builders.passes.fold_constants import folded
from tests.builders.graphs import assert_equal_graphs, graph, ops


def test_what_depends_on_no_input_is_folded() -> None:
    model = graph(
        "squared = MatMul(w, w) mapped = MatMul(features, squared) scores = ReduceSum<keepdims=0>(mapped, last)"
    )
    assert ops(model).count("MatMul") == 2
    assert ops(folded(model)).count("MatMul") == 1
    assert_equal_graphs(model, folded(model))
