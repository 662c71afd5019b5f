"""Finds which roles every tensor of a graph depends on: a binding-time analysis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from cleave.builders.names import BATCH, Role
from cleave.builders.onnx_graph.operators import Kind, operator
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.sizes import Size
from cleave.builders.spec import Axis, Ranker


@dataclass(frozen=True)
class Label:
    """What a tensor depends on: the data of `roles`, and the sizes of `axes`."""

    roles: frozenset[Role] = frozenset()
    axes: frozenset[str] = frozenset()

    def __or__(self, other: Label) -> Label:
        return Label(self.roles | other.roles, self.axes | other.axes)


class Labels:
    """The labels of every tensor of a graph.

    A shape is not data: `Shape` carries no role, only the axes whose sizes are read, so that a tensor of one role can
    be reshaped by the size of another's. A shape that is no function of the axes may depend on data and counts as such.
    A tensor of no role is free: whoever needs it computes it.
    """

    def __init__(self, model: onnx.ModelProto, ranker: Ranker, probe: Probe) -> None:
        self.axis_roles = ranker.axis_roles
        self.axis_sources = _axis_sources(ranker)
        self._labels = {tensor.name: Label(frozenset({role})) for role, tensor in ranker.tensors() if role != "output"}
        for node in model.graph.node:
            label = self.union(node.input)
            for output in node.output:
                read = probe.values.get(output)
                if operator(node.op_type).kind is Kind.SIZE:
                    read = read if read is not None else probe.shape(node.input[0])
                elif label.roles:
                    read = None
                self._labels[output] = label if read is None else _label_of_sizes(read)

    def of(self, tensor: str) -> Label:
        """The label of a tensor by name; weights and absent inputs depend on nothing."""
        return self._labels.get(tensor, Label())

    def union(self, tensors: Iterable[str]) -> Label:
        """The label of what reads all of these tensors."""
        label = Label()
        for tensor in tensors:
            label |= self.of(tensor)
        return label

    def roles_in_effect(self, label: Label) -> frozenset[Role]:
        """The roles of a label, with those whose sizes it reads; none for a free one."""
        if not label.roles:
            return frozenset()
        return label.roles | {self.axis_roles[axis] for axis in label.axes if axis != BATCH}

    def is_only(self, role: Role, tensor: str) -> bool:
        """Whether a tensor depends on one role alone."""
        return self.roles_in_effect(self.of(tensor)) == {role}


def _label_of_sizes(sizes: Iterable[Size]) -> Label:
    return Label(axes=frozenset[str]().union(*(size.axes for size in sizes)))


def _axis_sources(ranker: Ranker) -> dict[str, tuple[str, int]]:
    """An input, and its dimension, from which the size of the batch and of every axis can be read."""
    sources: dict[str, tuple[str, int]] = {}
    for tensor in ranker.inputs:
        sources.setdefault(BATCH, (tensor.name, 0))
        for place, axis in enumerate(tensor.axes):
            if isinstance(axis, Axis):
                sources.setdefault(axis.name, (tensor.name, place + 1))
    return sources
