"""Names of nodes."""

from __future__ import annotations

from cleave.builders.passes.node_names import with_node_names
from tests.builders.graphs import graph


def test_names_are_unique_and_never_empty() -> None:
    model = graph("a = Neg(features) b = Neg(a) scores = ReduceSum<keepdims=0>(b, last)")
    for node, name in zip(model.graph.node, ["model/Neg", "model/Neg", ""], strict=True):
        node.name = name
    names = [node.name for node in with_node_names(model).graph.node]
    assert names[:2] == ["model/Neg", "model/Neg_2"]
    assert len(set(names)) == 3
    assert all(names)
