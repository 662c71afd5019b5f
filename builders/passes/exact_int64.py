"""Operators of int64 that ONNX Runtime gets wrong for large numbers, written as others that it gets right.

Seen with 1.31 on x86: `Clip`, `Max`, `Min`, `Sign`, `ReduceMax` and `ReduceMin` compare the lower halves of two numbers
as if they had a sign where the upper halves are equal, so that the latest of some times in milliseconds is any of them
(microsoft/onnxruntime, pull requests 25280 and 32475). `ReduceSum` and `ReduceProd` compute in float64, which leaves
numbers beyond 2^53 out, and stop at the largest int64 where torch wraps around.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cleave.builders.errors import BuilderError
from cleave.builders.onnx_graph.edit import copy_of, element_types, replace_nodes
from cleave.builders.onnx_graph.interval_rules import Interval
from cleave.builders.onnx_graph.intervals import INT32, INTEGERS_OF_FLOAT64, intervals, made_of_sizes
from cleave.builders.onnx_graph.random_inputs import AnyArray
from cleave.builders.onnx_graph.scopes import scope_of

HALF = 1 << 32

SUMS = ("ReduceProd", "ReduceSum")
SAFE = {
    **dict.fromkeys("Clip Max Min ReduceMax ReduceMin Sign".split(), INT32),
    **dict.fromkeys(SUMS, INTEGERS_OF_FLOAT64),
}
"""Where operators are right: all inputs of a comparison are within, or the output of a sum."""


class Int64Error(BuilderError):
    """An operator of int64 that ONNX Runtime would get wrong, and that cannot be written otherwise."""


def exact_int64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without operators that ONNX Runtime may get wrong; itself where no value gets so large.

    Raises:
        Int64Error: names an operator that cannot be written otherwise.
    """
    types, known, sizes = element_types(model), intervals(model), made_of_sizes(model)
    wrong = {
        node.name for node in model.graph.node if node.output[0] not in sizes and _may_be_wrong(node, types, known)
    }
    if not wrong:
        return model
    changed = copy_of(model)
    writer = _Writer(changed.graph)
    for node in changed.graph.node:
        if node.name in wrong:
            writer.write(node)
        else:
            writer.nodes.append(node)
    replace_nodes(changed.graph, writer.nodes)
    onnx.checker.check_model(changed)
    return changed


def _may_be_wrong(node: onnx.NodeProto, types: Mapping[str, int], known: Mapping[str, Interval]) -> bool:
    if node.op_type not in SAFE or types[node.output[0]] != TensorProto.INT64:
        return False
    decisive = node.output if node.op_type in SUMS else [name for name in node.input if name]
    return not all(known[name].is_within(SAFE[node.op_type]) for name in decisive)


class _Writer:
    """Writes nodes in place of others, with the same outputs."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.nodes: list[onnx.NodeProto] = []

    def write(self, node: onnx.NodeProto) -> None:
        match node.op_type:
            case "Clip":
                self.write_clip(node)
            case "Max" | "Min":
                self.write_extreme(node)
            case "ReduceMax" | "ReduceMin":
                self.write_reduced_extreme(node)
            case "ReduceSum":
                self.write_sum(node)
            case "Sign":
                self.write_sign(node)
            case _:
                raise Int64Error(
                    f"{node.name}: expected integers within 2^53, up to which ONNX Runtime multiplies exactly, got a "
                    f"{node.op_type} that may go beyond; let module {scope_of(node)!r} multiply remainders, clamped "
                    "integers or floats"
                )

    def write_clip(self, node: onnx.NodeProto) -> None:
        value, bounds = node.input[0], [*node.input[1:], "", ""][:2]
        given = [("Less", bounds[0]), ("Greater", bounds[1])]
        chosen = [(compare, bound) for compare, bound in given if bound]
        for place, (compare, bound) in enumerate(chosen):
            result = node.output[0] if place == len(chosen) - 1 else f"{node.output[0]}/bounded"
            value = self.add(node, "Where", [self.add(node, compare, [value, bound]), bound, value], result)

    def write_extreme(self, node: onnx.NodeProto) -> None:
        compare = "Less" if node.op_type == "Max" else "Greater"
        best = node.input[0]
        for place, other in enumerate(node.input[1:], start=1):
            result = node.output[0] if place == len(node.input) - 1 else f"{node.output[0]}/of_{place}"
            best = self.add(node, "Where", [self.add(node, compare, [best, other]), other, best], result)

    def write_reduced_extreme(self, node: onnx.NodeProto) -> None:
        """The first of the elements in order, along one axis after the other."""
        axes = self.constants.get(node.input[1]) if len(node.input) > 1 else None
        if axes is None or not axes.size:
            raise Int64Error(
                f"{node.name}: expected the axes of a {node.op_type} of integers to be named, got all of them, the "
                f"users' among them; name the axes in module {scope_of(node)!r}"
            )
        value, first = node.input[0], self.constant(np.array([1]))
        for axis in axes.tolist():
            names = [f"{node.output[0]}/along_{axis}", f"{node.output[0]}/place_{axis}"]
            self.nodes.append(
                helper.make_node(
                    "TopK",
                    [value, first],
                    names,
                    f"{node.name}/{names[0]}",
                    axis=axis,
                    largest=int(node.op_type == "ReduceMax"),
                )
            )
            value = names[0]
        keeps = next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1)
        if keeps:
            self.add(node, "Identity", [value], node.output[0])
        else:
            self.add(node, "Squeeze", [value, node.input[1]], node.output[0])

    def write_sum(self, node: onnx.NodeProto) -> None:
        """Of the multiples of 2^32 and of the rests apart, each of which is exact in float64."""
        half = self.constant(np.array(HALF))
        rest = self.add(node, "Mod", [node.input[0], half])
        high = self.add(node, "Div", [self.add(node, "Sub", [node.input[0], rest]), half])
        options = {attribute.name: attribute.i for attribute in node.attribute}
        rests, highs = (self.add(node, "ReduceSum", [part, *node.input[1:]], **options) for part in (rest, high))
        self.add(node, "Add", [self.add(node, "Mul", [highs, half]), rests], node.output[0])

    def write_sign(self, node: onnx.NodeProto) -> None:
        zero = self.constant(np.array(0))
        above, below = (
            self.add(node, "Cast", [self.add(node, compare, [node.input[0], zero])], to=TensorProto.INT64)
            for compare in ("Greater", "Less")
        )
        self.add(node, "Sub", [above, below], node.output[0])

    def add(self, node: onnx.NodeProto, op: str, inputs: list[str], output: str = "", **attributes: int) -> str:
        """Append a node in the module of another one; returns the name of its output."""
        name = f"{node.name}/{op}_{len(self.nodes)}"
        output = output or f"{node.output[0]}/{op}_{len(self.nodes)}"
        made = helper.make_node(op, inputs, [output], name)
        made.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(made)
        return output

    def constant(self, value: AnyArray) -> str:
        name = f"int64_{'_'.join(map(str, value.shape))}_{value.item()}"
        if name not in self.constants:
            self.constants[name] = value
            self.graph.initializer.append(numpy_helper.from_array(value.astype(np.int64), name))
        return name
