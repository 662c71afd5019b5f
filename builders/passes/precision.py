"""Writes a precision into a graph: products and weights in 16 bits, float32 where scores need it.

TensorRT networks are strongly typed: a node computes in the type of its inputs, so that the precision is part of the
graph and not an option of the engine. These nodes stay in float32:

- softmax, and the masks and scales before it: a mask of -65504, float16's lowest number, overflows when a score is
  added to it;
- norms, sums, exponentials and roots, which add up or amplify rounding errors;
- a sum over the history that is not weighted by a softmax (the state of linear attention, pooling), and what is linear
  in it until it is divided or normed: the sum of a million events exceeds 65504, float16's largest number;
- the last products before the scores: there rounding reaches the scores directly, and these products are the cheapest;
- integers that become floats, such as counts of events: float16 has no odd numbers above 2048.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cleave.builders.contract.dtypes import TOLERANCES
from cleave.builders.errors import BuilderError
from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.dtypes import largest_number, numpy_type, onnx_type
from cleave.builders.onnx_graph.edit import copy_of, element_types, replace_nodes
from cleave.builders.onnx_graph.operators import Kind, operator
from cleave.builders.onnx_graph.probe import Probe


class PrecisionError(BuilderError):
    """A precision that is not known."""


def check_precision(precision: str) -> None:
    """Refuse an unknown precision.

    Raises:
        PrecisionError: names the precisions that are known.
    """
    if precision not in TOLERANCES:
        raise PrecisionError(f"--precision: expected one of {', '.join(TOLERANCES)}, got {precision!r}; choose")


def precision_of(model: onnx.ModelProto) -> str:
    """The least exact precision that any tensor of a graph has."""
    types = set(element_types(model).values())
    return max((name for name in TOLERANCES if onnx_type(name) in types), key=TOLERANCES.__getitem__, default="float32")


def with_precision(model: onnx.ModelProto, precision: str, probe: Probe, scores: Iterable[str] = ()) -> onnx.ModelProto:
    """The graph that computes in `precision`; inputs and outputs keep their types.

    Args:
        precision: a key of `TOLERANCES`.
        probe: sizes of the tensors of the model; a tensor that is not in it is taken to be of fixed size.
        scores: names of the outputs whose last products stay in float32.
    """
    if precision == "float32":
        return model
    typed = copy_of(model)
    _Typing(typed, onnx_type(precision), probe, frozenset(scores)).run()
    onnx.checker.check_model(typed)
    return typed


class _Typing:
    """Gives every node of a graph its type, float32 or `low`, and casts tensors between nodes of different types."""

    def __init__(self, model: onnx.ModelProto, low: int, probe: Probe, scores: frozenset[str]) -> None:
        self.graph = model.graph
        self.low = low
        self.probe = probe
        self.types = element_types(model)
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self.wide = self._before_softmax() | self._last_products(scores) | self._unnormalized_sums()
        """Tensors that are computed in float32."""
        self.now: dict[str, int] = {value.name: self.types[value.name] for value in self.graph.input}
        """The type that each tensor has in the typed graph, as far as nodes are typed."""
        self.made: dict[tuple[str, int], str] = {}
        """The name of each tensor in another type."""
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        outputs = {output.name for output in self.graph.output}
        for node in self.graph.node:
            to = TensorProto.FLOAT if self._is_wide(node) else self.low
            for place, name in enumerate(node.input):
                if self.types.get(name) == TensorProto.FLOAT:
                    node.input[place] = self._as(name, to)
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = to
            self.nodes.append(node)
            for place, name in enumerate(node.output):
                if self.types.get(name) == TensorProto.FLOAT:
                    self.now[name] = to
                    if name in outputs and to != TensorProto.FLOAT:
                        node.output[place] = f"{name}/low"
                        self._cast(node.output[place], name, TensorProto.FLOAT)
                        self.made[name, to] = node.output[place]
                        self.now[name] = TensorProto.FLOAT
        replace_nodes(self.graph, self.nodes)

    def _is_wide(self, node: onnx.NodeProto) -> bool:
        """Whether a node computes in float32; one that is neither a product nor needs float32 does as its inputs do."""
        if node.output[0] in self.wide or operator(node.op_type).float32:
            return True
        if any(attribute.type == onnx.AttributeProto.TENSOR for attribute in node.attribute):
            return True
        if operator(node.op_type).is_product:
            return False
        if node.op_type == "Cast" and self.types[node.input[0]] != TensorProto.FLOAT:
            return self.types[node.input[0]] != TensorProto.BOOL
        given = [name for name in node.input if self.types.get(name) == TensorProto.FLOAT and name in self.now]
        return any(self.now[name] == TensorProto.FLOAT for name in given)

    def _as(self, name: str, to: int) -> str:
        """The name of a float tensor in another type; a tensor is cast once to each."""
        if self.now.get(name) == to:
            return name
        if (name, to) not in self.made:
            if name in self.constants:
                if to == TensorProto.FLOAT:
                    return name
                self.made[name, to] = f"{name}/{numpy_type(to).name}"
                self.graph.initializer.append(_narrowed(self.constants[name], to, self.made[name, to]))
            else:
                self.made[name, to] = f"{name}/{numpy_type(to).name}"
                self._cast(name, self.made[name, to], to)
        return self.made[name, to]

    def _cast(self, given: str, made: str, to: int) -> None:
        self.nodes.append(helper.make_node("Cast", [given], [made], f"precision/{made}", to=to))

    def _before_softmax(self) -> set[str]:
        """The scores of attention: what a softmax reads, and what masks and scales make that of."""
        found: set[str] = set()
        for node in reversed(self.graph.node):
            reads = operator(node.op_type).kind is Kind.SOFTMAX or node.output[0] in found
            for name in node.input if reads else ():
                producer = self.producers.get(name)
                if producer is not None and operator(producer.op_type).scores:
                    found.add(name)
        return found

    def _last_products(self, scores: frozenset[str]) -> set[str]:
        """The outputs of the products from which the scores are computed without another product."""
        found: set[str] = set()
        after = set(scores)
        for node in reversed(self.graph.node):
            if after & set(node.output):
                if operator(node.op_type).is_product:
                    found.add(node.output[0])
                else:
                    after.update(node.input)
        return found

    def _unnormalized_sums(self) -> set[str]:
        """Sums over an axis that varies, whose result has no such axis but the batch, and what is linear in them."""
        found: set[str] = set()
        for node in self.graph.node:
            if (operator(node.op_type).linear and found & set(node.input)) or self._sums_up_an_axis(node):
                found.update(node.output)
        return found

    def _sums_up_an_axis(self, node: onnx.NodeProto) -> bool:
        if not operator(node.op_type).sums or self._axes(node.output[0]):
            return False
        makers = [self.producers[name] for name in node.input if name in self.producers]
        weighted = any(operator(maker.op_type).kind is Kind.SOFTMAX for maker in makers)
        return not weighted and any(self._axes(name) for name in node.input)

    def _axes(self, name: str) -> set[str]:
        """The axes besides the batch that the shape of a tensor depends on."""
        shape = self.probe.shape(name) or ()
        return {axis for size in shape for axis in size.axes} - {BATCH}


def _narrowed(tensor: onnx.TensorProto, to: int, name: str) -> onnx.TensorProto:
    """A constant in a narrower type; numbers beyond its range become the largest one, infinity stays infinity."""
    values = numpy_helper.to_array(tensor)
    dtype = numpy_type(to)
    limit = largest_number(to)
    clipped = np.where(np.isinf(values), values, np.clip(values, -limit, limit))
    return numpy_helper.from_array(clipped.astype(dtype), name)
