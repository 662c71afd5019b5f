"""The memory that the tensors of a graph take while it runs, which limits the batch of an engine."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from cleave.builders.onnx_graph.edit import element_types
from cleave.builders.onnx_graph.operators import operator
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.sizes import Size, product


class Activations:
    """The tensors that the nodes of a graph make.

    Args:
        model: a graph of a cut, before or after passes.
        probe: the shapes of the tensors of the cut. A tensor that a pass added (a cast, a transpose, a mask) is not in
            it, and is taken to be as large as the first tensor of known size that its node reads.
    """

    def __init__(self, model: onnx.ModelProto, probe: Probe) -> None:
        self._nodes = model.graph.node
        self._outputs = [value.name for value in model.graph.output]
        self._item_bytes = _item_bytes(model)
        self._elements: dict[str, Size] = {}
        for name in [*(value.name for value in model.graph.input), *(each.name for each in model.graph.initializer)]:
            if (shape := probe.shape(name)) is not None:
                self._elements[name] = product(shape)
        for node in self._nodes:
            read = next((self._elements[name] for name in node.input if name in self._elements), Size.of(1))
            for name in node.output:
                shape = probe.shape(name)
                self._elements[name] = read if shape is None else product(shape)

    def largest(self, sizes: Mapping[str, int]) -> int:
        """The number of elements of the largest tensor."""
        return max((self._elements[name].at(sizes) for node in self._nodes for name in node.output), default=0)

    def peak_bytes(self, sizes: Mapping[str, int]) -> int:
        """The most bytes that are needed at once when the nodes run one by one in graph order.

        A view takes no memory of its own. Weights and inputs are not counted.
        """
        held_by = self._held_by()
        last = {held_by.get(name, name): place for place, node in enumerate(self._nodes) for name in node.input}
        last |= {held_by.get(name, name): len(self._nodes) for name in self._outputs}
        held: dict[str, int] = {}
        most = 0
        for place, node in enumerate(self._nodes):
            for name in node.output:
                if name and held_by[name] == name:
                    held[name] = self._elements[name].at(sizes) * self._item_bytes.get(name, 4)
            most = max(most, sum(held.values()))
            held = {name: count for name, count in held.items() if last.get(name, place) > place}
        return most

    def _held_by(self) -> dict[str, str]:
        """From each tensor to the tensor in whose memory it lies."""
        held_by: dict[str, str] = {}
        for node in self._nodes:
            for name in node.output:
                held_by[name] = held_by.get(node.input[0], node.input[0]) if operator(node.op_type).is_view else name
        return held_by


def _item_bytes(model: onnx.ModelProto) -> dict[str, int]:
    return {
        name: onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize for name, kind in element_types(model).items() if kind
    }
