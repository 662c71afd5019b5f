"""Computes with int32 what a graph computes with int64: ids are cast once, where they come in."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cleave.builders.onnx_graph.edit import copy_of, element_types, replace_nodes
from cleave.builders.onnx_graph.operators import Kind, operator

INT32_MAX = np.iinfo(np.int32).max


def int32_inside(model: onnx.ModelProto) -> onnx.ModelProto:
    """An equal graph of the same inputs and outputs whose int64 is only shapes, and casts where data comes in and goes.

    Ids beyond int32 wrap around; a table that they could look up has fewer rows than that.
    """
    changed = copy_of(model)
    _Int32(changed).run()
    onnx.checker.check_model(changed)
    return changed


class _Int32:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.types = element_types(model)
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.given = {value.name for value in self.graph.input}
        self.shapes = self._shape_tensors()
        self.in_int32: set[str] = set()
        """Tensors of the old name and the new type."""
        self.made: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        outputs = {output.name for output in self.graph.output}
        for node in self.graph.node:
            if self._is_passed_on(node, outputs) or any(name in self.shapes for name in node.output):
                self.nodes.append(node)
                continue
            row = operator(node.op_type)
            for place, name in enumerate(node.input):
                if self._is_int64(name) and place not in row.int64_inputs and row.kind is not Kind.SIZE:
                    node.input[place] = self._as_int32(name)
            self._append(node, outputs)
        replace_nodes(self.graph, self.nodes)

    def _append(self, node: onnx.NodeProto, outputs: set[str]) -> None:
        """Add a node of data; its int64 results are int32 from here on."""
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.INT64:
                attribute.i = TensorProto.INT32
        self.nodes.append(node)
        for place, name in enumerate(node.output):
            if not self._is_int64(name):
                continue
            if place in operator(node.op_type).int64_outputs:
                if name not in outputs:
                    node.output[place] = f"{name}/int64"
                    self._cast(node.output[place], name, TensorProto.INT32)
                    self.in_int32.add(name)
            elif name in outputs:
                node.output[place] = self.made[name] = f"{name}/int32"
                self._cast(node.output[place], name, TensorProto.INT64)
            else:
                self.in_int32.add(name)

    def _is_int64(self, name: str) -> bool:
        return self.types.get(name) == TensorProto.INT64

    def _is_passed_on(self, node: onnx.NodeProto, outputs: set[str]) -> bool:
        """An input that is an output as it is: nothing is computed."""
        return node.op_type == "Identity" and node.input[0] in self.given and node.output[0] in outputs

    def _shape_tensors(self) -> set[str]:
        """The int64 tensors that shapes and axes are made of."""
        found: set[str] = set()
        for node in reversed(self.graph.node):
            row = operator(node.op_type)
            whole = any(name in found for name in node.output) and row.kind is not Kind.SIZE
            places = range(len(node.input)) if whole else row.int64_inputs
            found.update(node.input[place] for place in places if place < len(node.input))
        return {
            name for name in found if self._is_int64(name) and name not in self.constants and name not in self.given
        }

    def _as_int32(self, name: str) -> str:
        if name in self.in_int32:
            return name
        if name not in self.made:
            self.made[name] = f"{name}/int32"
            if name in self.constants:
                values = np.clip(numpy_helper.to_array(self.constants[name]), -INT32_MAX - 1, INT32_MAX)
                self.graph.initializer.append(numpy_helper.from_array(values.astype(np.int32), self.made[name]))
            else:
                self._cast(name, self.made[name], TensorProto.INT32)
        return self.made[name]

    def _cast(self, given: str, made: str, to: int) -> None:
        self.nodes.append(helper.make_node("Cast", [given], [made], f"int32/{made}", to=to))
