"""Says how operators run on the slices of a sequence one by one: a rule for each that need not see the rows together.

A rule changes nothing in the graph, and what it says is true whatever the rows hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from cleave.builders.onnx_graph.operators import Kind, operator
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.size_nodes import reshape_target
from cleave.builders.onnx_graph.sizes import Size, product


class TogetherError(Exception):
    """The operator needs the rows together."""


@dataclass(frozen=True)
class Slices:
    """A tensor as the concatenation of `tensors` along `axis`; `sizes` are theirs there."""

    axis: int
    tensors: tuple[gs.Tensor, ...]
    sizes: tuple[Size, ...]

    @property
    def offsets(self) -> tuple[Size, ...]:
        """Where each slice begins, and where the last one ends."""
        offsets = [Size.of(0)]
        for size in self.sizes:
            offsets.append(offsets[-1] + size)
        return tuple(offsets)


@dataclass(frozen=True)
class Apart:
    """An operator that runs once for each slice: every copy reads its slice of each input that is in slices."""

    axis: int
    """The axis along which the outputs are in slices."""
    shares: Mapping[int, int] = field(default_factory=dict)
    """The inputs, by place, that are whole and meet the slices row by row along this axis: a copy reads its rows."""
    shape: Sequence[Size | int] | None = None
    """The shape that a copy of a Reshape is given."""


@dataclass(frozen=True)
class SlicedNode:
    """A node of which some inputs are in slices.

    Args:
        slices: of these inputs, by name.
        probe: the shapes of the tensors of the graph. A rule that needs one that is unknown raises `TogetherError`.
    """

    node: gs.Node
    slices: Mapping[str, Slices]
    probe: Probe

    @property
    def sliced_inputs(self) -> dict[int, Slices]:
        """The inputs that are in slices, by place."""
        return {
            place: self.slices[tensor.name]
            for place, tensor in enumerate(self.node.inputs)
            if tensor.name in self.slices
        }

    def output_shape(self, place: int = 0) -> tuple[Size, ...]:
        return self._shape(self.node.outputs[place])

    def shape(self, place: int) -> tuple[Size, ...]:
        """The shape of an input."""
        return self._shape(self.node.inputs[place])

    def rank(self, place: int) -> int:
        """The rank of an input."""
        return len(self.shape(place))

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attrs.get(name, default)

    def constant(self, place: int) -> list[int]:
        """The elements of a constant integer input."""
        inputs = self.node.inputs
        if len(inputs) <= place or not isinstance(inputs[place], gs.Constant):
            raise TogetherError
        return [int(element) for element in np.asarray(inputs[place].values).reshape(-1)]

    def only_first(self) -> Slices:
        """The slices of the first input, if no other is in slices."""
        if list(self.sliced_inputs) != [0]:
            raise TogetherError
        return self.sliced_inputs[0]

    def equal_slices(self) -> Slices:
        """The slices of the first input that is in slices, if those of all others are as long."""
        first, *others = self.sliced_inputs.values()
        if any(slices.sizes != first.sizes for slices in others):
            raise TogetherError
        return first

    def shares(self, axis_from_end: int) -> dict[int, int]:
        """The whole inputs that have a row for each of the slices' rows along an axis, counted from the last one."""
        total = self.equal_slices().offsets[-1]
        found = {}
        for place, tensor in enumerate(self.node.inputs):
            if tensor.name and tensor.name not in self.slices and self.rank(place) >= -axis_from_end:
                axis = self.rank(place) + axis_from_end
                size = self.shape(place)[axis]
                if size.constant == 1:
                    continue
                if size != total:
                    raise TogetherError
                found[place] = axis
        return found

    def slice_axes(self) -> list[int]:
        """The axes of a Slice with steps of 1."""
        if len(self.node.inputs) > 4 and set(self.constant(4)) != {1}:
            raise TogetherError
        return [axis % self.rank(0) for axis in self.constant(3)]

    def _shape(self, tensor: gs.Tensor) -> tuple[Size, ...]:
        shape = self.probe.shape(tensor.name)
        if shape is None:
            raise TogetherError
        return shape


Rule = Callable[[SlicedNode], Apart]
"""From a node to how it runs on slices; it raises `TogetherError` where the operator needs the rows together."""


def rule_of(op: str) -> Rule | None:
    """The rule of an operator, by its own or by its kind's; None if it has none."""
    return _RULES.get(op) or _RULES_OF_KINDS.get(operator(op).kind)


def _elementwise(node: SlicedNode) -> Apart:
    rank = len(node.output_shape())
    axes = {slices.axis + rank - node.rank(place) for place, slices in node.sliced_inputs.items()}
    if len(axes) != 1:
        raise TogetherError
    (axis,) = axes
    return Apart(axis, node.shares(axis - rank))


def _along_one_axis(node: SlicedNode) -> Apart:
    slices, rank = node.only_first(), node.rank(0)
    (own,) = node.constant(1) if node.node.op == "CumSum" else [node.attribute("axis", -1)]
    last = rank if operator(node.node.op).kind is Kind.NORMALIZATION else own % rank + 1
    if slices.axis in range(own % rank, last):
        raise TogetherError
    return Apart(slices.axis)


def _reduce(node: SlicedNode) -> Apart:
    slices = node.only_first()
    reduced = {axis % node.rank(0) for axis in node.constant(1)}
    if slices.axis in reduced or not reduced:
        raise TogetherError
    gone = 0 if node.attribute("keepdims", 1) else sum(axis < slices.axis for axis in reduced)
    return Apart(slices.axis - gone)


def _matmul(node: SlicedNode) -> Apart:
    if len(node.sliced_inputs) != 1 or min(node.rank(0), node.rank(1)) < 2:
        raise TogetherError
    ((this, slices),) = node.sliced_inputs.items()
    other = 1 - this
    own, contracted = (-2, -1) if this == 0 else (-1, -2)
    from_end = slices.axis - node.rank(this)
    if from_end == contracted:
        raise TogetherError
    if from_end != own and node.rank(other) >= -from_end and node.shape(other)[from_end].constant != 1:
        raise TogetherError
    return Apart(len(node.output_shape()) + from_end)


def _transpose(node: SlicedNode) -> Apart:
    perm = list(node.attribute("perm", reversed(range(node.rank(0)))))
    return Apart(perm.index(node.only_first().axis))


def _reshape(node: SlicedNode) -> Apart:
    """A Reshape may change dimensions before and after the sliced one, which stays as it is."""
    slices, given, wanted = node.only_first(), node.shape(0), node.output_shape()
    before = product(given[: slices.axis])
    for place, size in enumerate(wanted):
        if size == given[slices.axis] and product(wanted[:place]) == before:
            return Apart(place, shape=reshape_target(given, wanted, infer=place))
    raise TogetherError


def _unsqueeze(node: SlicedNode) -> Apart:
    rank = len(node.output_shape())
    new = {axis % rank for axis in node.constant(1)}
    kept = [place for place in range(rank) if place not in new]
    return Apart(kept[node.only_first().axis])


def _squeeze(node: SlicedNode) -> Apart:
    slices = node.only_first()
    gone = {axis % node.rank(0) for axis in node.constant(1)}
    if slices.axis in gone:
        raise TogetherError
    return Apart(slices.axis - sum(axis < slices.axis for axis in gone))


def _gather(node: SlicedNode) -> Apart:
    """Ids in slices look up a table one slice at a time, or one entry is taken of each row."""
    axis = node.attribute("axis", 0) % node.rank(0)
    if 0 not in node.sliced_inputs:
        return Apart(axis + node.sliced_inputs[1].axis)
    slices = node.only_first()
    if axis == slices.axis:
        raise TogetherError
    return Apart(slices.axis + (node.rank(1) - 1) * (axis < slices.axis))


def _split(node: SlicedNode) -> Apart:
    """A Split along another axis, as of queries, keys and values that one product makes."""
    slices = node.only_first()
    if node.attribute("axis", 0) % node.rank(0) == slices.axis:
        raise TogetherError
    return Apart(slices.axis)


def _concat(node: SlicedNode) -> Apart:
    """A Concat along another axis."""
    rank = len(node.output_shape())
    axes = {slices.axis for slices in node.sliced_inputs.values()}
    if len(axes) != 1 or node.attribute("axis") % rank in axes:
        raise TogetherError
    (axis,) = axes
    return Apart(axis, node.shares(axis - rank))


def _slice(node: SlicedNode) -> Apart:
    """A Slice along other axes."""
    slices = node.only_first()
    if slices.axis in node.slice_axes():
        raise TogetherError
    return Apart(slices.axis)


_RULES: dict[str, Rule] = {
    "Identity": _elementwise,
    "MatMul": _matmul,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
}

_RULES_OF_KINDS: dict[Kind, Rule] = {
    Kind.ELEMENTWISE: _elementwise,
    Kind.SOFTMAX: _along_one_axis,
    Kind.SCAN: _along_one_axis,
    Kind.NORMALIZATION: _along_one_axis,
    Kind.REDUCTION: _reduce,
}
