"""Rewrites of a graph for TensorRT that change no score: what its compiler fuses, folds and names better."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from cleave.builders.onnx_graph.dtypes import NARROW_FLOATS
from cleave.builders.onnx_graph.edit import element_types, exported
from cleave.builders.passes.fold_constants import folded
from cleave.builders.passes.int32_ids import int32_inside


def tensorrt_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph as TensorRT gets it where it does not take `Attention`."""
    return with_names(folded(int32_inside(without_nan_guards(without_double_casts(model)))))


def without_double_casts(model: onnx.ModelProto) -> onnx.ModelProto:
    """Casts from a type to a wider one and back to the first are left out."""
    graph = gs.import_onnx(model)
    types = element_types(model)
    for node in graph.nodes:
        before = node.inputs[0].inputs[0] if node.op == "Cast" and node.inputs[0].inputs else None
        if before is None or before.op != "Cast" or node.outputs[0] in graph.outputs:
            continue
        source = before.inputs[0]
        between, first, last = (types.get(tensor.name) for tensor in (node.inputs[0], source, node.outputs[0]))
        if first == last and between == onnx.TensorProto.FLOAT and first in NARROW_FLOATS:
            _replace(node.outputs[0], source)
    return exported(graph, model)


def without_nan_guards(model: onnx.ModelProto) -> onnx.ModelProto:
    """`Where(IsNaN(s), 0, s)` after a Softmax goes, as it keeps an attention from becoming one kernel.

    A softmax of finite weights is a number unless its mask is minus infinity for every key. The mask becomes the lowest
    finite number, and where no key can be read, which the mask alone says, the rows that the weights are multiplied
    into are zeroed instead of the weights: a product of zero weights is zero. Padding is masked like any key that is
    not read, and inputs that are no numbers are refused before they get here.
    """
    graph = gs.import_onnx(model)
    for guard in [node for node in graph.nodes if node.op == "Where"]:
        match = _guarded_softmax(guard)
        if match is None:
            continue
        softmax, read, mask = match
        if _is_minus_infinity(mask.inputs[2]):
            _zero_unread(graph, read, _finite(mask))
        _replace(guard.outputs[0], softmax.outputs[0])
    return exported(graph, model)


def _guarded_softmax(guard: gs.Node) -> tuple[gs.Node, gs.Node, gs.Node] | None:
    """The softmax of a NaN guard, the product that reads it, and the Where that is its mask."""
    test, zero, weights = guard.inputs
    softmax, readers = _maker(weights, "Softmax"), guard.outputs[0].outputs
    is_guard = _maker(test, "IsNaN") is not None and test.inputs[0].inputs[0] is weights
    if not is_guard or softmax is None or not isinstance(zero, gs.Constant) or zero.values.any():
        return None
    if len(readers) != 1 or readers[0].op != "MatMul" or readers[0].inputs[0] is not guard.outputs[0]:
        return None
    masked = _maker(softmax.inputs[0], "Add")
    for operand in masked.inputs if masked is not None else ():
        mask = _maker(operand, "Where")
        if mask is not None and all(isinstance(value, gs.Constant) for value in mask.inputs[1:]):
            return softmax, readers[0], mask
    return None


def _maker(tensor: gs.Tensor, op: str) -> gs.Node | None:
    """The node that makes a tensor if it is of this kind."""
    return tensor.inputs[0] if tensor.inputs and tensor.inputs[0].op == op else None


def _is_minus_infinity(constant: gs.Constant) -> bool:
    return bool(np.isneginf(constant.values).all())


def _finite(mask: gs.Node) -> gs.Node:
    """The mask with the lowest finite number instead of minus infinity."""
    infinity = mask.inputs[2]
    lowest = np.full_like(infinity.values, np.finfo(infinity.values.dtype).min)
    mask.inputs[2] = gs.Constant(f"{mask.name}/lowest", lowest)
    return mask


def _zero_unread(graph: gs.Graph, product: gs.Node, mask: gs.Node) -> None:
    """Zero the rows of a product whose keys are all masked: where `mask`'s condition holds for no key."""
    result = product.outputs[0]
    scope = mask.name
    exact = gs.Variable(f"{result.name}/unguarded", result.dtype, result.shape)
    axis = gs.Constant(f"{scope}/keys", np.array([-1], np.int64))
    zero = gs.Constant(f"{scope}/zero", np.zeros((), mask.inputs[2].values.dtype))
    ones, most, readable = (gs.Variable(f"{scope}/{name}") for name in ("readable_keys", "readable_any", "readable"))
    product.outputs[0] = exact
    graph.nodes += [
        gs.Node("Cast", f"{scope}/Cast", {"to": np.int32}, [mask.inputs[0]], [ones]),
        gs.Node("ReduceMax", f"{scope}/ReduceMax", {"keepdims": 1}, [ones, axis], [most]),
        gs.Node("Cast", f"{scope}/Cast_2", {"to": np.bool_}, [most], [readable]),
        gs.Node("Where", f"{scope}/Where_2", {}, [readable, exact, zero], [result]),
    ]


def with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every node has a name of its own, that of its module first: TensorRT's lists of layers are made of them."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    taken: Counter[str] = Counter()
    for node in named.graph.node:
        name = node.name or f"{named.graph.name}/{node.op_type}"
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"
    return named


def _replace(tensor: gs.Tensor, other: gs.Tensor) -> None:
    """Let whoever reads a tensor read another one."""
    for reader in list(tensor.outputs):
        reader.inputs = [other if given is tensor else given for given in reader.inputs]
