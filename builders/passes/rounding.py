"""Rounds on a CPU as a GPU does: for measuring what a precision costs in exactness.

ONNX Runtime has no kernels for bfloat16 on a CPU, and computes chains of float16 operators in float32 without rounding
in between, so that results look better than they are. Tensor cores add up products in float32, as the graph of this
pass does.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cleave.builders.onnx_graph.dtypes import NARROW_FLOATS
from cleave.builders.onnx_graph.edit import copy_of, element_types


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph computed in float32, whose results of 16 bits are rounded to 16 bits; inputs and outputs stay."""
    changed = copy_of(model)
    types = element_types(model)
    low = {name for name, kind in types.items() if kind in NARROW_FLOATS}
    interface = {value.name for value in (*model.graph.input, *model.graph.output)} & low
    inside = {name: f"{name}/float32" for name in interface}
    given = [value.name for value in model.graph.input if value.name in low]
    nodes = [_cast(name, inside[name], TensorProto.FLOAT) for name in given]
    for tensor in changed.graph.initializer:
        if tensor.name in low:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in changed.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and node.output[0] in low:
                attribute.i = TensorProto.FLOAT
        node.input[:] = [inside.get(name, name) for name in node.input]
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in low:
                node.output[place] = f"{name}/exact"
                narrow = name if name in interface else f"{name}/narrow"
                nodes.append(_cast(node.output[place], narrow, types[name]))
                nodes.append(_cast(narrow, inside.get(name, name), TensorProto.FLOAT))
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    del changed.graph.value_info[:]
    return changed


def _cast(given: str, made: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [given], [made], f"rounded/{made}", to=to)
