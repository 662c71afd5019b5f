"""What the graph of torch's exporter goes through: passes as in `cleave.builders.passes`, and their order."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import onnx
from onnx import numpy_helper

from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.edit import Pass, copy_of, number_names
from cleave.builders.spec import Axis, Ranker

ROOT_SCOPE = "model"
"""What nodes of the outermost module are named after."""

_SCOPE_KEY = "pkg.torch.onnx.name_scopes"
"""In the metadata of a node: the paths of the modules that it comes from, and its own name, as a list of Python."""


def after_export(ranker: Ranker) -> tuple[Pass, ...]:
    """For every graph that torch's exporter writes of a ranker."""
    return (
        with_infinite_masks,  # first: it knows masks by the names that the exporter gives
        with_scoped_names,  # before metadata goes, as it reads the modules there
        without_metadata,
        partial(with_named_axes, ranker=ranker),  # in any place: it touches nothing but inputs and outputs
    )


def with_infinite_masks(model: onnx.ModelProto) -> onnx.ModelProto:
    """Gives `scaled_dot_product_attention` over no keys its zero again.

    In torch its boolean mask is minus infinity, and a row of nothing else, which is NaN after the softmax, becomes
    zero. The exporter writes that guard, but masks with the lowest finite number, so that the row becomes the mean of
    what is masked. Only the exporter's own masks are touched, whose names begin with `val_`.
    """
    changed = copy_of(model)
    graph = changed.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if not tensor.dims}
    producers = {output: node for node in graph.node for output in node.output}
    guarded = {node.input[0] for node in graph.node if node.op_type == "IsNaN"}
    for softmax in graph.node:
        added = producers.get(softmax.input[0]) if softmax.op_type == "Softmax" else None
        if added is None or added.op_type != "Add" or softmax.output[0] not in guarded:
            continue
        for mask in (producers.get(name) for name in added.input):
            if mask is None or mask.op_type != "Where" or not mask.output[0].startswith("val_"):
                continue
            lowest = constants.get(mask.input[2])
            if lowest is not None and lowest == np.finfo(lowest.dtype).min:
                infinity = f"minus_infinity_{lowest.dtype}"
                if infinity not in constants:
                    constants[infinity] = np.array(-np.inf, lowest.dtype)
                    graph.initializer.append(numpy_helper.from_array(constants[infinity], infinity))
                mask.input[2] = infinity
    return changed


def with_scoped_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Names every node after the torch module that it comes from and its operator: `blocks.0.key/MatMul_2`."""
    changed = copy_of(model)
    number_names(changed.graph, lambda node: f"{_scope(node) or ROOT_SCOPE}/{node.op_type}")
    return changed


def _scope(node: onnx.NodeProto) -> str:
    """The path of the innermost torch module that a node comes from; empty for the outermost module."""
    for entry in node.metadata_props:
        if entry.key == _SCOPE_KEY:
            scopes: list[str] = re.findall(r"'([^']*)'", entry.value)
            return scopes[-2] if len(scopes) > 1 and not scopes[-2].startswith("_") else ""
    return ""


def without_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """Removes what depends on the machine and what nobody reads: traces, paths, documentation, shapes of tensors."""
    changed = copy_of(model)
    graph = changed.graph
    for entry in (changed, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        entry.doc_string = ""
        del entry.metadata_props[:]
    del graph.value_info[:]
    del changed.functions[:]
    return changed


def with_named_axes(model: onnx.ModelProto, ranker: Ranker) -> onnx.ModelProto:
    """Names the axes of inputs and outputs as the ranker does, and the first one `BATCH`."""
    changed = copy_of(model)
    tensors = {tensor.name: tensor for _, tensor in ranker.tensors()}
    for value in (*changed.graph.input, *changed.graph.output):
        dims = value.type.tensor_type.shape.dim
        dims[0].dim_param = BATCH
        for dim, axis in zip(dims[1:], tensors[value.name].axes, strict=True):
            if isinstance(axis, Axis):
                dim.dim_param = axis.name
    return changed
