"""Computes with int32 what a graph computes with int64, where every value provably fits: half the bytes and registers.

Ids that look up a table are the usual case: a guard bounds them (`torch.where` of a comparison, a clamp, a remainder),
or the table itself. Times, hashes and ids of 64 bits stay in int64, which TensorRT takes in nearly all operators.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cleave.builders.onnx_graph.edit import copy_of, element_types, replace_nodes
from cleave.builders.onnx_graph.intervals import INT32, intervals
from cleave.builders.onnx_graph.operators import Kind, operator

OF_ONE_TYPE = ("Constant", "ConstantOfShape")
"""Their type is that of an attribute."""


def int32_inside(model: onnx.ModelProto) -> onnx.ModelProto:
    """An equal graph of the same inputs and outputs that computes in int32 where every value fits.

    Equal is meant for all values that inputs can have. Shapes and axes stay as they are. A value that is cast wraps
    around where it does not fit, which happens where it is not used: on the side of a choice that is not taken.
    """
    changed = copy_of(model)
    _Int32(changed).run()
    onnx.checker.check_model(changed)
    return changed


class _Int32:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.bounds = intervals(model)
        self.types = element_types(model)
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.given = {value.name for value in self.graph.input}
        self.outputs = {value.name for value in self.graph.output}
        self.shapes = self._shape_tensors()
        self.in_int32: set[str] = set()
        """Tensors of the old name and the new type."""
        self.made: dict[tuple[str, int], str] = {}
        """Casts of tensors, by the type that they are in."""
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        for node in self.graph.node:
            is_narrow = self._fits(node)
            for place, name in enumerate(node.input):
                if self._is_data(node, place):
                    is_place = operator(node.op_type).places == place  # int32 holds all that a first input can have
                    node.input[place] = self._as(
                        name, TensorProto.INT32 if is_narrow or is_place else TensorProto.INT64
                    )
            self._append(node, is_narrow)
        replace_nodes(self.graph, self.nodes)

    def _fits(self, node: onnx.NodeProto) -> bool:
        """Whether a node computes the same with int32."""
        outputs = [name for name in node.output if self._is_int64(name)]
        if any(name in self.shapes for name in outputs) or self._is_passed_on(node) or node.op_type in OF_ONE_TYPE:
            return False
        if not all(self.bounds[name].is_within(INT32) for name in outputs):
            return False
        if outputs and operator(node.op_type).modular:
            return True
        places = [place for place in range(len(node.input)) if self._is_data(node, place)]
        return all(self.bounds[node.input[place]].is_within(INT32) for place in places)

    def _is_data(self, node: onnx.NodeProto, place: int) -> bool:
        """Whether an input is in int64 and may be in int32."""
        row = operator(node.op_type)
        return self._is_int64(node.input[place]) and place not in row.int64_inputs and row.kind is not Kind.SIZE

    def _append(self, node: onnx.NodeProto, is_narrow: bool) -> None:
        for attribute in node.attribute:
            if is_narrow and node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.INT64:
                attribute.i = TensorProto.INT32
        self.nodes.append(node)
        always_int64 = operator(node.op_type).int64_outputs
        for place, name in enumerate(node.output):
            if not is_narrow or not self._is_int64(name):
                continue
            if name in self.outputs:
                if place not in always_int64:
                    node.output[place] = self.made[name, TensorProto.INT32] = f"{name}/int32"
                    self._cast(node.output[place], name, TensorProto.INT64)
            elif place in always_int64:
                node.output[place] = self.made[name, TensorProto.INT64] = f"{name}/int64"
                self._cast(node.output[place], name, TensorProto.INT32)
                self.in_int32.add(name)
            else:
                self.in_int32.add(name)

    def _is_int64(self, name: str) -> bool:
        return self.types.get(name) == TensorProto.INT64

    def _is_passed_on(self, node: onnx.NodeProto) -> bool:
        """An input that is an output as it is: nothing is computed."""
        return node.op_type == "Identity" and node.input[0] in self.given and node.output[0] in self.outputs

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

    def _as(self, name: str, kind: int) -> str:
        """A tensor in one of the two types, cast once."""
        now = TensorProto.INT32 if name in self.in_int32 else TensorProto.INT64
        if kind == now:
            return name
        if (name, kind) not in self.made:
            self.made[name, kind] = made = f"{name}/int{32 if kind == TensorProto.INT32 else 64}"
            if name in self.constants:
                values = numpy_helper.to_array(self.constants[name]).astype(np.int32)  # which wraps around as a cast
                self.graph.initializer.append(numpy_helper.from_array(values, made))
            else:
                self._cast(name, made, kind)
        return self.made[name, kind]

    def _cast(self, given: str, made: str, to: int) -> None:
        self.nodes.append(helper.make_node("Cast", [given], [made], f"int32/{made}", to=to))
