"""Leaves out pairs of casts that undo each other, as there are between nodes of different precisions."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs

from cleave.builders.onnx_graph.dtypes import NARROW_FLOATS
from cleave.builders.onnx_graph.edit import element_types, exported, read_instead


def without_double_casts(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without casts from a narrow float to float32 and back to the same narrow float."""
    graph = gs.import_onnx(model)
    types = element_types(model)
    for node in graph.nodes:
        before = node.inputs[0].inputs[0] if node.op == "Cast" and node.inputs[0].inputs else None
        if before is None or before.op != "Cast" or node.outputs[0] in graph.outputs:
            continue
        source = before.inputs[0]
        between, first, last = (types.get(tensor.name) for tensor in (node.inputs[0], source, node.outputs[0]))
        if first == last and between == onnx.TensorProto.FLOAT and first in NARROW_FLOATS:
            read_instead(node.outputs[0], source)
    return exported(graph, model)
