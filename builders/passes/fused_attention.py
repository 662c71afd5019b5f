"""Attention in the form that TensorRT makes one kernel of, so that its weights are never in memory."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from cleave.builders.onnx_graph.dtypes import NARROW_FLOATS, largest_number
from cleave.builders.onnx_graph.edit import element_types, exported

ATTENTION_OPSET = 23
"""The first with `Attention`."""
SCORE_RANK = 4
"""Of an attention's weights: [batch, heads, queries, keys]."""


def with_attention(model: onnx.ModelProto) -> onnx.ModelProto:
    """Attention that is spelled out in half precision becomes ONNX `Attention`; the model itself where there is none.

    TensorRT makes one kernel of an `Attention` or refuses it, so that a plan which builds has no weights in memory. The
    mask is kept above half of the lowest number, as half precision would make minus infinity of float32's lowest, and
    of a row of nothing else no number. Such a row, which reads masked keys only, then weighs them as if they were not
    masked instead of equally; where scores do not change with padding, which every build proves, these keys are all
    alike and any weights give the same.
    """
    graph = gs.import_onnx(model)
    types, ranks = element_types(model), _ranks(model)
    found = 0
    for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
        match = _Attention.match(softmax, types, ranks)
        if match is not None:
            match.rewrite(graph, types)
            found += 1
    if not found:
        return model
    graph.opset = ATTENTION_OPSET
    graph.import_domains = [onnx.helper.make_opsetid("", ATTENTION_OPSET)]
    return exported(graph, model)


class _Attention:
    """`MatMul(softmax(MatMul(query, key) [* scale] [+ mask]), value)` in a graph."""

    def __init__(self, query: gs.Tensor, key: gs.Tensor, scale: float, mask: gs.Tensor | None, read: gs.Node) -> None:
        self.query, self.key, self.scale, self.mask, self.read = query, key, scale, mask, read

    @staticmethod
    def match(softmax: gs.Node, types: dict[str, int], ranks: dict[str, int]) -> _Attention | None:
        """The attention that a softmax belongs to, if it is one that the operator can say."""

        def is_half_product(node: gs.Node) -> bool:
            return (
                node.op == "MatMul"
                and types[node.outputs[0].name] in NARROW_FLOATS
                and all(ranks.get(tensor.name) == SCORE_RANK for tensor in node.inputs)
            )

        read = _only_reader(softmax.outputs[0])
        over_keys = softmax.attrs.get("axis", -1) in (-1, SCORE_RANK - 1)
        if (
            not over_keys
            or read is None
            or not is_half_product(read)
            or not _is_made_from(read.inputs[0], softmax.outputs[0])
        ):
            return None
        weights, mask = _without_mask(softmax.inputs[0])
        scale, weights = _without_scale(weights)
        product = _producer(weights)
        if product is None or not is_half_product(product) or scale is None:
            return None
        return _Attention(product.inputs[0], product.inputs[1], scale, mask, read)

    def rewrite(self, graph: gs.Graph, types: dict[str, int]) -> None:
        name, result = self.read.name, self.read.outputs[0]
        keys = gs.Variable(f"{name}/keys")
        graph.nodes.append(gs.Node("Transpose", f"{name}/keys", {"perm": [0, 1, 3, 2]}, [self.key], [keys]))
        inputs = [self.query, keys, self.read.inputs[1]]
        if self.mask is not None:
            inputs.append(self._half_mask(graph, types[result.name]))
        self.read.outputs = []
        graph.nodes.append(gs.Node("Attention", f"{name}/Attention", {"scale": self.scale}, inputs, [result]))

    def _half_mask(self, graph: gs.Graph, half: int) -> gs.Tensor:
        name = self.read.name
        lowest = np.array(-largest_number(half) / 2, np.float32)
        bounded, mask = gs.Variable(f"{name}/bounded_mask"), gs.Variable(f"{name}/mask")
        graph.nodes += [
            gs.Node("Max", f"{name}/Max", {}, [self.mask, gs.Constant(f"{name}/lowest", lowest)], [bounded]),
            gs.Node("Cast", f"{name}/Cast", {"to": half}, [bounded], [mask]),
        ]
        return mask


def _producer(tensor: gs.Tensor) -> gs.Node | None:
    """The node that makes a tensor, casts left out."""
    while tensor.inputs:
        node = tensor.inputs[0]
        if node.op != "Cast":
            return node
        tensor = node.inputs[0]
    return None


def _without_mask(tensor: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor | None]:
    """The weights and what is added to them."""
    node = _producer(tensor)
    if node is None or node.op != "Add":
        return tensor, None
    products = [_producer(_without_scale(side)[1]) for side in node.inputs]
    weights = next((place for place, made in enumerate(products) if made is not None and made.op == "MatMul"), 0)
    return node.inputs[weights], node.inputs[1 - weights]


def _without_scale(tensor: gs.Tensor) -> tuple[float | None, gs.Tensor]:
    """The number that the weights are multiplied by, and the weights before it; no number if it is not one alone."""
    node = _producer(tensor)
    if node is None or node.op not in ("Mul", "Div"):
        return 1.0, tensor
    factor = node.inputs[1]
    if not isinstance(factor, gs.Constant) or factor.values.size != 1:
        return None, tensor
    value = float(factor.values.reshape(()))
    return value if node.op == "Mul" else 1 / value, node.inputs[0]


def _only_reader(tensor: gs.Tensor) -> gs.Node | None:
    """The one node that reads a tensor, casts left out."""
    while len(tensor.outputs) == 1:
        node = tensor.outputs[0]
        if node.op != "Cast":
            return node
        tensor = node.outputs[0]
    return None


def _is_made_from(tensor: gs.Tensor, source: gs.Tensor) -> bool:
    """Whether a tensor is another one, or its cast."""
    while tensor is not source and tensor.inputs and tensor.inputs[0].op == "Cast":
        tensor = tensor.inputs[0].inputs[0]
    return tensor is source


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }
    return ranks | {tensor.name: len(tensor.dims) for tensor in inferred.initializer}
