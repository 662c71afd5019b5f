"""Bounds of the values of every tensor of a graph, whatever a request holds.

Inputs take every value of their type, as nothing checks what is sent. Bounds come from the graph itself: a remainder, a
clip, a mask that is summed, a comparison that guards a choice. They are those of finite numbers: ONNX does not define
what a cast to integers makes of others.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cleave.builders.contract.dtypes import DTYPES
from cleave.builders.onnx_graph.dtypes import onnx_type
from cleave.builders.onnx_graph.edit import element_types
from cleave.builders.onnx_graph.interval_rules import (
    BOOLEAN,
    EVERYTHING,
    LARGEST_AXIS,
    RULES,
    Call,
    Interval,
    hull,
    union,
)
from cleave.builders.onnx_graph.operators import Kind, operator

LARGEST_CONSTANT = 1 << 16
"""Constants of floats with more elements are weights, whose bounds nothing asks for."""
PLACES = Interval(0, LARGEST_AXIS - 1)
"""Along an axis."""
INT32 = Interval(-(2**31), 2**31 - 1)
"""What int32 holds."""
FLOATS = {onnx_type(row.name): row.rounding for row in DTYPES.values() if row.rounding is not None}
"""Types of real numbers, and by how much of itself the result of an operator may be rounded."""
INTEGERS_OF_FLOAT64 = Interval(-(2**53), 2**53)
"""Among which float64 leaves none out."""


def intervals(model: onnx.ModelProto) -> dict[str, Interval]:
    """Bounds of every tensor of a graph by name."""
    return _Bounds(model).run()


def made_of_sizes(model: onnx.ModelProto) -> set[str]:
    """The tensors that no data goes into: constants, sizes, and what is computed from them."""
    found = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if operator(node.op_type).kind is Kind.SIZE or found.issuperset(filter(None, node.input)):
            found.update(node.output)
    return found


def interval_of_type(kind: int) -> Interval:
    """Of all values of an ONNX type."""
    if kind == TensorProto.BOOL:
        return BOOLEAN
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    return Interval(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) if dtype.kind in "iu" else EVERYTHING


def _of_constant(tensor: onnx.TensorProto) -> Interval:
    every = interval_of_type(tensor.data_type)
    if every is EVERYTHING and math.prod(tensor.dims) > LARGEST_CONSTANT:
        return every
    values = numpy_helper.to_array(tensor)
    if not values.size or values.dtype.kind not in "iufb":
        return every
    return hull(values.min().item(), values.max().item())


class _Bounds:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = model.graph.node
        self.types = element_types(model)
        self.producers = {name: node for node in self.nodes for name in node.output}
        self.known = {tensor.name: _of_constant(tensor) for tensor in model.graph.initializer}

    def run(self) -> dict[str, Interval]:
        for node in self.nodes:
            for place, name in enumerate(node.output):
                if name in self.types:
                    every = interval_of_type(self.types[name])
                    found = self.rounded(name, self.of_output(node, place))
                    self.known[name] = found if found.is_within(every) else every  # what is beyond wraps around
        return {name: self.of(name) for name in self.types}

    def of(self, name: str) -> Interval:
        if name not in self.types:
            return EVERYTHING
        return self.known.get(name) or interval_of_type(self.types[name])

    def of_output(self, node: onnx.NodeProto, place: int) -> Interval:
        kind = operator(node.op_type).kind
        if kind is Kind.SIZE or (kind is Kind.SEARCH and place == len(node.output) - 1):
            return PLACES
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        match node.op_type:
            case "Where":
                found = self.of_choice(node)
            case "Cast":
                found = self.of_cast(node)
            case "Constant" | "ConstantOfShape":
                found = _of_constant(attributes["value"]) if "value" in attributes else EVERYTHING
            case op if op in RULES:
                found = RULES[op](Call([self.of(name) if name else None for name in node.input], attributes))
            case _:
                is_moved = kind in (Kind.VIEW, Kind.MOVE, Kind.SEARCH)
                found = self.of(node.input[0]) if is_moved else EVERYTHING
        return found

    def of_cast(self, node: onnx.NodeProto) -> Interval:
        given = self.of(node.input[0])
        if self.types[node.output[0]] in FLOATS or self.types[node.input[0]] not in FLOATS:
            return given
        return hull(*(math.trunc(end) if math.isfinite(end) else end for end in (given.low, given.high)))

    def rounded(self, name: str, found: Interval) -> Interval:
        """With a margin for what a tensor of floats is rounded by."""
        margin = FLOATS.get(self.types[name], 0)
        return Interval(found.low - abs(found.low) * margin, found.high + abs(found.high) * margin) if margin else found

    def of_choice(self, node: onnx.NodeProto) -> Interval:
        """Of a Where, each side where its condition leads to it."""
        condition, *sides = node.input
        chosen = [
            self.of(name) & self.implied(condition, truth).get(name, EVERYTHING)
            for name, truth in zip(sides, (True, False), strict=True)
        ]
        return union(chosen)

    def implied(self, condition: str, truth: bool) -> dict[str, Interval]:
        """Bounds of tensors wherever a condition is true, or false."""
        node = self.producers.get(condition)
        if node is None:
            return {}
        if node.op_type == "Not":
            return self.implied(node.input[0], not truth)
        if node.op_type == ("And" if truth else "Or"):
            left, right = (self.implied(name, truth) for name in node.input)
            return {name: left.get(name, EVERYTHING) & right.get(name, EVERYTHING) for name in {*left, *right}}
        if node.op_type == "Equal" and truth:
            left, right = node.input
            return {left: self.of(right), right: self.of(left)}
        if node.op_type not in ORDERS:
            return {}
        below, is_strict = ORDERS[node.op_type]
        if not truth:
            below, is_strict = 1 - below, not is_strict
        low, high = node.input[below], node.input[1 - below]
        step = int(is_strict and interval_of_type(self.types[low]) is not EVERYTHING)
        return {
            low: Interval(-math.inf, self.of(high).high - step),
            high: Interval(self.of(low).low + step, math.inf),
        }


ORDERS = {"Less": (0, True), "LessOrEqual": (0, False), "Greater": (1, True), "GreaterOrEqual": (1, False)}
"""Which input of a comparison is below the other if it is true, and whether it is never equal."""
