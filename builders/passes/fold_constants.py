"""Folds constants."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs

from cleave.builders.onnx_graph.dtypes import NARROW_FLOATS
from cleave.builders.onnx_graph.edit import element_types, exported


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in which a constant stands for everything that depends on no input.

    Nodes of 16 bits stay, as ONNX Runtime cannot run all of them on a CPU.
    """
    types = element_types(model)

    def is_half(node: gs.Node) -> bool:
        return any(types.get(tensor.name) in NARROW_FLOATS for tensor in (*node.inputs, *node.outputs))

    graph = gs.import_onnx(model)
    graph.fold_constants(error_ok=False, should_exclude_node=is_half)
    return exported(graph, model)
