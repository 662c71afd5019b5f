"""Gives inputs and outputs the shapes of Triton, where one value a user is `[batch, 1]`; in torch it is `[batch]`.

Triton could reshape them itself (`reshape` in the config), but then it checks a request of no rows less strictly: such
a request is handed to the backend, where it may never be answered.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cleave.builders.onnx_graph.edit import copy_of, rename_tensors

AXIS, SUFFIX, SCOPE = "column_axis", "_row", "columns"
"""Names inside the graphs that are served: to change one of them changes the fingerprint of every model."""


def with_unit_axes(model: onnx.ModelProto) -> onnx.ModelProto:
    """An equal graph whose inputs and outputs of shape `[batch]` are `[batch, 1]`, under the same names."""
    changed = copy_of(model)
    graph = changed.graph
    inputs, outputs = ([value for value in values if _rank(value) == 1] for values in (graph.input, graph.output))
    if not inputs and not outputs:
        return changed
    names = {value.name for value in (*inputs, *outputs)}
    rename_tensors(graph.node, {name: f"{name}{SUFFIX}" for name in names})
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), AXIS))
    squeezes = [_node("Squeeze", value.name, f"{value.name}{SUFFIX}", value.name) for value in inputs]
    unsqueezes = [_node("Unsqueeze", f"{value.name}{SUFFIX}", value.name, value.name) for value in outputs]
    nodes = [*squeezes, *graph.node, *unsqueezes]
    del graph.node[:]
    graph.node.extend(nodes)
    for value in (*inputs, *outputs):
        value.type.tensor_type.shape.dim.add(dim_value=1)
    onnx.checker.check_model(changed)
    return changed


def _rank(value: onnx.ValueInfoProto) -> int:
    return len(value.type.tensor_type.shape.dim)


def _node(op: str, given: str, made: str, name: str) -> onnx.NodeProto:
    return helper.make_node(op, [given, AXIS], [made], f"{SCOPE}/{name}")
