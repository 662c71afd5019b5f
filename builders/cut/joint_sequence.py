"""Takes a sequence apart that was concatenated of user rows and candidate rows.

Ranking models often run [H_1 .. H_n, C_1 .. C_m] through one Transformer. Every tensor on the way then holds rows of
both, and nothing could be moved. But most operators treat rows apart: f(concat(a, b)) = concat(f(a), f(b)). This pass
follows a Concat through such operators (`cleave.builders.cut.joint_sequence_rules`), one copy for each slice, until a
Slice asks for one slice alone or an operator needs them together. Rows that nobody asks for (the history after the last
layer) fall away with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from cleave.builders.cut.joint_sequence_rules import Apart, SlicedNode, Slices, TogetherError, rule_of
from cleave.builders.cut.labels import Labels
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.size_nodes import AxisSource, SizeNodes
from cleave.builders.onnx_graph.sizes import Size


def split_rows(model: onnx.ModelProto, probe: Probe, labels: Labels) -> onnx.ModelProto:
    """An equal graph that computes user rows and candidate rows apart where they were concatenated.

    Args:
        probe: sizes of the tensors of `model`.
        labels: roles of the tensors of `model`; only a Concat of different roles is followed.
    """
    graph = gs.import_onnx(model)
    splitter = _Splitter(graph, probe, labels)
    for node in list(graph.nodes):
        splitter.visit(node)
    if not splitter.used:
        return model
    graph.cleanup().toposort()
    result: onnx.ModelProto = gs.export_onnx(graph)
    result.ir_version = model.ir_version
    return result


class _Splitter:
    def __init__(self, graph: gs.Graph, probe: Probe, labels: Labels) -> None:
        self.graph = graph
        self.probe = probe
        self.labels = labels
        self.slices: dict[str, Slices] = {}
        """The slices of every tensor that is in slices, by name."""
        self.joined: dict[str, gs.Tensor] = {}
        self.used = False
        inputs = {tensor.name: tensor for tensor in graph.inputs}
        sources = {axis: AxisSource(inputs[name], place) for axis, (name, place) in labels.axis_sources.items()}
        self.size_nodes = SizeNodes(graph, sources, "rows")

    def visit(self, node: gs.Node) -> None:
        """Run `node` on slices if its inputs are in slices; else make sure that it reads whole tensors."""
        if node.op == "Concat" and (slices := self._slices_of_concat(node)):
            self.slices[node.outputs[0].name] = slices
            return
        if not any(tensor.name in self.slices for tensor in node.inputs):
            return
        sliced = SlicedNode(node, self.slices, self.probe)
        try:
            if pieces := self._pieces(sliced):
                self.used = True
                self._replace(node, pieces)
                return
            if (rule := rule_of(node.op)) is None:
                raise TogetherError
            apart = rule(sliced)
        except TogetherError:
            node.inputs = [self._whole(tensor) for tensor in node.inputs]
            return
        self._copy(sliced, apart)

    # What starts and what ends slices

    def _slices_of_concat(self, node: gs.Node) -> Slices | None:
        """The slices that a Concat of user rows and others makes; an input that is in slices itself adds its own."""
        tensors: list[gs.Tensor] = []
        sizes: list[Size] = []
        for tensor in node.inputs:
            shape = self.probe.shape(tensor.name)
            if shape is None:
                return None
            axis = node.attrs["axis"] % len(shape)
            inner = self.slices.get(tensor.name)
            if inner is not None and inner.axis != axis:
                return None
            tensors += inner.tensors if inner else [tensor]
            sizes += inner.sizes if inner else [shape[axis]]
        roles = {self.labels.of(tensor.name).roles for tensor in node.inputs}
        started = any(tensor.name in self.slices for tensor in node.inputs)
        if not started and (
            len(roles) < 2 or not any(self.labels.is_only("user", tensor.name) for tensor in node.inputs)
        ):
            return None
        return Slices(axis, tuple(tensors), tuple(sizes))

    def _pieces(self, sliced: SlicedNode) -> list[Slices]:
        """The slices of each output of a Slice or Split along the sliced axis; empty if a slice is cut through."""
        slices = self.slices.get(sliced.node.inputs[0].name)
        bounds = None if slices is None else self._bounds(sliced, slices)
        if slices is None or bounds is None or any(bound not in slices.offsets for bound in bounds):
            return []
        places = [slices.offsets.index(bound) for bound in bounds]
        if any(first >= last for first, last in itertools.pairwise(places)):
            return []
        return [
            Slices(slices.axis, slices.tensors[first:last], slices.sizes[first:last])
            for first, last in itertools.pairwise(places)
        ]

    def _bounds(self, sliced: SlicedNode, slices: Slices) -> list[Size] | None:
        """Where the outputs of a Slice or Split along the sliced axis begin, and where the last one ends."""
        node = sliced.node
        if node.op == "Slice" and sliced.slice_axes() == [slices.axis]:
            if self.labels.union(tensor.name for tensor in node.inputs[1:3]).roles:
                return None
            given = [self.probe.values.get(node.inputs[place].name, ()) for place in (1, 2)]
            return [_clipped(size, slices.offsets[-1]) for sizes in given for size in sizes]
        if node.op == "Split" and node.attrs.get("axis", 0) % sliced.rank(0) == slices.axis:
            sizes = (sliced.output_shape(place)[slices.axis] for place in range(len(node.outputs)))
            return list(itertools.accumulate(sizes, initial=Size.of(0)))
        return None

    def _replace(self, node: gs.Node, pieces: Sequence[Slices]) -> None:
        """Make the outputs of a Slice or Split from slices, under their names, as they may be outputs of the graph."""
        outputs = list(node.outputs)
        node.outputs.clear()
        for place, (output, slices) in enumerate(zip(outputs, pieces, strict=True)):
            name = node.name if len(outputs) == 1 else f"{node.name}/{place}"
            single = len(slices.tensors) == 1
            op, attrs = ("Identity", {}) if single else ("Concat", {"axis": slices.axis})
            self.graph.nodes.append(gs.Node(op, name, attrs, list(slices.tensors), [output]))
            if not single:
                self.slices[output.name] = slices

    def _whole(self, tensor: gs.Tensor) -> gs.Tensor:
        """The tensor in one piece for an operator that needs it so."""
        if tensor.name not in self.slices:
            return tensor
        producer = tensor.inputs[0]
        if producer.op == "Concat" and not any(entry.name in self.slices for entry in producer.inputs):
            return tensor
        if tensor.name not in self.joined:
            slices = self.slices[tensor.name]
            joined = gs.Variable(f"{tensor.name}/joined", dtype=tensor.dtype)
            name = f"{producer.name}/joined"
            self.graph.nodes.append(gs.Node("Concat", name, {"axis": slices.axis}, list(slices.tensors), [joined]))
            self.joined[tensor.name] = joined
        return self.joined[tensor.name]

    # What runs on slices

    def _copy(self, sliced: SlicedNode, apart: Apart) -> None:
        """Copy the node for each slice. The outputs of the copies are the slices of the outputs of the node."""
        node, slices = sliced.node, next(iter(sliced.sliced_inputs.values()))
        attrs, shape = dict(node.attrs), None
        if apart.shape is not None:
            shape = self.size_nodes.vector(apart.shape)
            attrs["allowzero"] = 0
        copies = []
        for part in range(len(slices.tensors)):
            inputs = [self._input(sliced, apart, place, part) for place in range(len(node.inputs))]
            if shape is not None:
                inputs[1] = shape
            outputs = [gs.Variable(f"{output.name}/part_{part}", dtype=output.dtype) for output in node.outputs]
            copies.append(gs.Node(node.op, f"{node.name}/part_{part}", dict(attrs), inputs, outputs, node.domain))
        self.graph.nodes.extend(copies)
        for place, output in enumerate(node.outputs):
            made = tuple(copy.outputs[place] for copy in copies)
            self.slices[output.name] = Slices(apart.axis, made, slices.sizes)

    def _input(self, sliced: SlicedNode, apart: Apart, place: int, part: int) -> gs.Tensor:
        """What the copy for a slice reads: its slice, its share of the rows of a whole input, or all of it."""
        tensor = sliced.node.inputs[place]
        if place in sliced.sliced_inputs:
            return sliced.sliced_inputs[place].tensors[part]
        if place not in apart.shares:
            return tensor
        slices, axis = next(iter(sliced.sliced_inputs.values())), apart.shares[place]
        bounds = [self.size_nodes.vector([entry]) for entry in (*slices.offsets[part : part + 2], Size.of(axis))]
        share = gs.Variable(f"{sliced.node.name}/rows_{part}/{tensor.name}", dtype=tensor.dtype)
        self.graph.nodes.append(gs.Node("Slice", share.name, {}, [tensor, *bounds], [share]))
        return share


def _clipped(bound: Size, total: Size) -> Size:
    """A bound of a Slice, counted from the start: one beyond the end is the end, a negative one counts from the end."""
    if bound.constant is not None and bound.constant >= np.iinfo(np.int32).max:
        return total
    return total + bound if any(factor < 0 for _, factor in bound.terms) else bound
