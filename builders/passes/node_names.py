"""Gives every node a name of its own: TensorRT's lists of layers are made of them."""

from __future__ import annotations

import onnx

from cleave.builders.onnx_graph.edit import copy_of, number_names


def with_node_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph whose nodes have names of their own: the name that they had, or that of the graph and the operator."""
    named = copy_of(model)
    number_names(named.graph, lambda node: node.name or f"{named.graph.name}/{node.op_type}")
    return named
