"""Takes a sequence apart that was concatenated of user rows and candidate rows.

Ranking models often run [H_1 .. H_n, C_1 .. C_m] through one Transformer. Every tensor on the way then holds rows of
both, and nothing could be moved. But most operators treat rows apart: f(concat(a, b)) = concat(f(a), f(b)). This pass
follows a Concat through such operators, one copy for each part, until a Slice asks for one part alone or an operator
needs them together. Rows that nobody asks for (the history after the last layer) fall away with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from cleave.builders.cut.labels import Labels
from cleave.builders.onnx_graph.operators import Kind, operator
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.size_nodes import AxisSource, SizeNodes, reshape_target
from cleave.builders.onnx_graph.sizes import Size, product


@dataclass(frozen=True)
class Parts:
    """A tensor as the concatenation of `tensors` along `axis`; `sizes` are theirs there."""

    axis: int
    tensors: tuple[gs.Tensor, ...]
    sizes: tuple[Size, ...]

    @property
    def offsets(self) -> tuple[Size, ...]:
        """Where each part begins, and where the last one ends."""
        offsets = [Size.of(0)]
        for size in self.sizes:
            offsets.append(offsets[-1] + size)
        return tuple(offsets)


Rule = Callable[[gs.Node], tuple[int, list[gs.Node]]]
"""From a node to the axis of its outputs that is split, and a copy of the node for each part."""


class CannotSplitError(Exception):
    """The operator needs the rows together."""


def split_rows(model: onnx.ModelProto, probe: Probe, labels: Labels) -> onnx.ModelProto:
    """An equal graph in which user rows and candidate rows that were concatenated are computed apart.

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
        self.parts: dict[str, Parts] = {}
        self.joined: dict[str, gs.Tensor] = {}
        self.used = False
        inputs = {tensor.name: tensor for tensor in graph.inputs}
        sources = {axis: AxisSource(inputs[name], place) for axis, (name, place) in labels.axis_sources.items()}
        self.size_nodes = SizeNodes(graph, sources, "rows")
        self.rules: dict[str, Rule] = {
            "Identity": self._elementwise,
            "MatMul": self._matmul,
            "Transpose": self._transpose,
            "Reshape": self._reshape,
            "Unsqueeze": self._unsqueeze,
            "Squeeze": self._squeeze,
            "Gather": self._gather,
            "Concat": self._concat_across,
            "Slice": self._slice_across,
            "Split": self._split_across,
        }
        self.rules_of_kinds: dict[Kind, Rule] = {
            Kind.ELEMENTWISE: self._elementwise,
            Kind.SOFTMAX: self._along_one_axis,
            Kind.SCAN: self._along_one_axis,
            Kind.NORMALIZATION: self._along_one_axis,
            Kind.REDUCTION: self._reduce,
        }

    def visit(self, node: gs.Node) -> None:
        """Split `node` if its inputs are split; else make sure it reads whole tensors."""
        if node.op == "Concat" and (parts := self._parts_of_concat(node)):
            self.parts[node.outputs[0].name] = parts
            return
        if not any(tensor.name in self.parts for tensor in node.inputs):
            return
        try:
            if pieces := self._pieces(node):
                self.used = True
                self._replace(node, pieces)
                return
            rule = self.rules.get(node.op) or self.rules_of_kinds.get(operator(node.op).kind)
            if rule is None:
                raise CannotSplitError
            axis, copies = rule(node)
        except CannotSplitError:
            node.inputs = [self._whole(tensor) for tensor in node.inputs]
            return
        sizes = self._split_inputs(node)[0].sizes
        for place, output in enumerate(node.outputs):
            self.parts[output.name] = Parts(axis, tuple(copy.outputs[place] for copy in copies), sizes)

    # What starts and what ends a split

    def _parts_of_concat(self, node: gs.Node) -> Parts | None:
        """The parts of a Concat of user rows and others; a part that is split itself on this axis adds its own."""
        axis = self._positive(node.attrs["axis"], node.outputs[0])
        tensors: list[gs.Tensor] = []
        sizes: list[Size] = []
        for tensor in node.inputs:
            inner = self.parts.get(tensor.name)
            if inner is not None and inner.axis != axis:
                return None
            shape = self.probe.shape(tensor.name)
            if shape is None:
                return None
            tensors += inner.tensors if inner else [tensor]
            sizes += inner.sizes if inner else [shape[axis]]
        roles = {self.labels.of(tensor.name).roles for tensor in node.inputs}
        started = any(tensor.name in self.parts for tensor in node.inputs)
        if not started and (
            len(roles) < 2 or not any(self.labels.is_only("user", tensor.name) for tensor in node.inputs)
        ):
            return None
        return Parts(axis, tuple(tensors), tuple(sizes))

    def _pieces(self, node: gs.Node) -> list[Parts]:
        """The parts of each output of a Slice or Split along the split axis; none if one is not made of whole parts."""
        parts = self.parts.get(node.inputs[0].name)
        bounds = None if parts is None else self._bounds(node, parts)
        if parts is None or bounds is None or any(bound not in parts.offsets for bound in bounds):
            return []
        places = [parts.offsets.index(bound) for bound in bounds]
        if any(first >= last for first, last in itertools.pairwise(places)):
            return []
        return [
            Parts(parts.axis, parts.tensors[first:last], parts.sizes[first:last])
            for first, last in itertools.pairwise(places)
        ]

    def _bounds(self, node: gs.Node, parts: Parts) -> list[Size] | None:
        """Where the outputs of a Slice or Split along the split axis begin, and where the last one ends."""
        if node.op == "Slice" and self._slice_axes(node) == [parts.axis]:
            if self.labels.union(tensor.name for tensor in node.inputs[1:3]).roles:
                return None
            given = [self.probe.values.get(node.inputs[place].name, ()) for place in (1, 2)]
            return [self._clipped(size, parts.offsets[-1]) for sizes in given for size in sizes]
        if node.op == "Split" and node.attrs.get("axis", 0) % self._rank(node.inputs[0]) == parts.axis:
            bounds = [Size.of(0)]
            for output in node.outputs:
                bounds.append(bounds[-1] + self._shape(output)[parts.axis])
            return bounds
        return None

    def _replace(self, node: gs.Node, pieces: Sequence[Parts]) -> None:
        """Make the outputs of a Slice or Split from parts: under their names, as they may be outputs of the graph."""
        outputs = list(node.outputs)
        node.outputs.clear()
        for place, (output, parts) in enumerate(zip(outputs, pieces, strict=True)):
            name = node.name if len(outputs) == 1 else f"{node.name}/{place}"
            single = len(parts.tensors) == 1
            op, attrs = ("Identity", {}) if single else ("Concat", {"axis": parts.axis})
            self.graph.nodes.append(gs.Node(op, name, attrs, list(parts.tensors), [output]))
            if not single:
                self.parts[output.name] = parts

    @staticmethod
    def _clipped(bound: Size, total: Size) -> Size:
        """A bound of a Slice as a place from the start: beyond the end is the end, negative counts from the end."""
        if bound.constant is not None and bound.constant >= np.iinfo(np.int32).max:
            return total
        return total + bound if any(factor < 0 for _, factor in bound.terms) else bound

    def _whole(self, tensor: gs.Tensor) -> gs.Tensor:
        """The tensor in one piece for an operator that needs it so."""
        if tensor.name not in self.parts:
            return tensor
        producer = tensor.inputs[0]
        if producer.op == "Concat" and not any(entry.name in self.parts for entry in producer.inputs):
            return tensor
        if tensor.name not in self.joined:
            parts = self.parts[tensor.name]
            joined = gs.Variable(f"{tensor.name}/joined", dtype=tensor.dtype)
            name = f"{producer.name}/joined"
            self.graph.nodes.append(gs.Node("Concat", name, {"axis": parts.axis}, list(parts.tensors), [joined]))
            self.joined[tensor.name] = joined
        return self.joined[tensor.name]

    # One rule per kind of operator: the axis of the output that is split, and the copies of the node

    def _elementwise(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        rank = len(self._shape(node.outputs[0]))
        axes = {parts.axis + rank - self._rank(tensor) for tensor, parts in self._split_pairs(node)}
        self._same_sizes(node)
        if len(axes) != 1:
            raise CannotSplitError
        axis = axes.pop()
        return axis, self._copies(node, lambda tensor, part: self._aligned(node, tensor, axis - rank, part))

    def _aligned(self, node: gs.Node, tensor: gs.Tensor, axis_from_end: int, part: int) -> gs.Tensor:
        """The rows of an operand that is not split but that meets split ones: all of it, or its share."""
        if not tensor.name or self._rank(tensor) < -axis_from_end:
            return tensor
        axis = self._rank(tensor) + axis_from_end
        size = self._shape(tensor)[axis]
        if size.constant == 1:
            return tensor
        parts = self._split_inputs(node)[0]
        if size != parts.offsets[-1]:
            raise CannotSplitError
        bounds = [self.size_nodes.vector([entry]) for entry in (*parts.offsets[part : part + 2], Size.of(axis))]
        name = f"{node.name}/rows_{part}/{tensor.name}"
        share = gs.Variable(name, dtype=tensor.dtype)
        self.graph.nodes.append(gs.Node("Slice", name, {}, [tensor, *bounds], [share]))
        return share

    def _along_one_axis(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        parts = self._split_only_first(node)
        rank = self._rank(node.inputs[0])
        own = self._constant(node, 1) if node.op == "CumSum" else [node.attrs.get("axis", -1)]
        own_axis = own[0] % rank
        blocked = range(own_axis, rank) if operator(node.op).kind is Kind.NORMALIZATION else (own_axis,)
        if parts.axis in blocked:
            raise CannotSplitError
        return parts.axis, self._copies(node)

    def _reduce(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        parts = self._split_only_first(node)
        rank = self._rank(node.inputs[0])
        reduced = sorted(axis % rank for axis in self._constant(node, 1))
        if parts.axis in reduced or not reduced:
            raise CannotSplitError
        gone = 0 if node.attrs.get("keepdims", 1) else sum(axis < parts.axis for axis in reduced)
        return parts.axis - gone, self._copies(node)

    def _matmul(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        left, right = node.inputs
        ranks = self._rank(left), self._rank(right)
        out_rank = len(self._shape(node.outputs[0]))
        if min(ranks) < 2 or (left.name in self.parts and right.name in self.parts):
            raise CannotSplitError
        this, other, own = (left, right, -2) if left.name in self.parts else (right, left, -1)
        from_end = self.parts[this.name].axis - self._rank(this)
        contracted = -1 if this is left else -2
        if from_end == contracted:
            raise CannotSplitError
        if from_end != own and self._rank(other) >= -from_end and self._shape(other)[from_end].constant != 1:
            raise CannotSplitError
        return out_rank + from_end, self._copies(node)

    def _transpose(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        parts = self._split_only_first(node)
        perm = list(node.attrs.get("perm", reversed(range(self._rank(node.inputs[0])))))
        return perm.index(parts.axis), self._copies(node)

    def _reshape(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        parts = self._split_only_first(node)
        given, wanted = self._shape(node.inputs[0]), self._shape(node.outputs[0])
        before = product(given[: parts.axis])
        axis = next(
            (
                place
                for place, size in enumerate(wanted)
                if size == given[parts.axis] and product(wanted[:place]) == before
            ),
            None,
        )
        if axis is None:
            raise CannotSplitError
        target = self.size_nodes.vector(reshape_target(given, wanted, infer=axis))
        copies = self._copies(node, lambda tensor, part: target if tensor is node.inputs[1] else tensor)
        for copy in copies:
            copy.attrs["allowzero"] = 0
        return axis, copies

    def _unsqueeze(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        parts = self._split_only_first(node)
        rank = len(self._shape(node.outputs[0]))
        new = {axis % rank for axis in self._constant(node, 1)}
        kept = [place for place in range(rank) if place not in new]
        return kept[parts.axis], self._copies(node)

    def _squeeze(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        parts = self._split_only_first(node)
        rank = self._rank(node.inputs[0])
        gone = {axis % rank for axis in self._constant(node, 1)}
        if parts.axis in gone:
            raise CannotSplitError
        return parts.axis - sum(axis < parts.axis for axis in gone), self._copies(node)

    def _gather(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        """Ids that were concatenated look a table up one part at a time; or the same entry of each row is taken."""
        table, ids = node.inputs
        axis = node.attrs.get("axis", 0) % self._rank(table)
        if table.name in self.parts:
            parts = self._split_only_first(node)
            if axis == parts.axis:
                raise CannotSplitError
            return parts.axis + (self._rank(ids) - 1) * (axis < parts.axis), self._copies(node)
        return axis + self.parts[ids.name].axis, self._copies(node)

    def _split_across(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        """Split along another axis than the split one, as of queries, keys and values made by one product."""
        parts = self._split_only_first(node)
        if node.attrs.get("axis", 0) % self._rank(node.inputs[0]) == parts.axis:
            raise CannotSplitError
        return parts.axis, self._copies(node)

    def _concat_across(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        """Concat along another axis than the split one."""
        axes = {parts.axis for _, parts in self._split_pairs(node)}
        self._same_sizes(node)
        axis = axes.pop()
        if axes or axis == self._positive(node.attrs["axis"], node.outputs[0]):
            raise CannotSplitError
        rank = self._rank(node.outputs[0])
        return axis, self._copies(node, lambda tensor, part: self._aligned(node, tensor, axis - rank, part))

    def _slice_across(self, node: gs.Node) -> tuple[int, list[gs.Node]]:
        """Slice along other axes than the split one."""
        parts = self._split_only_first(node)
        axes = self._slice_axes(node)
        if axes is None or parts.axis in axes:
            raise CannotSplitError
        return parts.axis, self._copies(node)

    # Helpers of the rules

    def _copies(
        self, node: gs.Node, operand: Callable[[gs.Tensor, int], gs.Tensor] = lambda tensor, part: tensor
    ) -> list[gs.Node]:
        """A copy of the node for each part; `operand` chooses what stands for an input that is not split."""
        count = len(self._split_inputs(node)[0].tensors)
        copies = []
        for part in range(count):
            inputs = [
                self.parts[tensor.name].tensors[part] if tensor.name in self.parts else operand(tensor, part)
                for tensor in node.inputs
            ]
            outputs = [gs.Variable(f"{output.name}/part_{part}", dtype=output.dtype) for output in node.outputs]
            copies.append(gs.Node(node.op, f"{node.name}/part_{part}", dict(node.attrs), inputs, outputs, node.domain))
        self.graph.nodes.extend(copies)
        return copies

    def _split_pairs(self, node: gs.Node) -> list[tuple[gs.Tensor, Parts]]:
        return [(tensor, self.parts[tensor.name]) for tensor in node.inputs if tensor.name in self.parts]

    def _split_inputs(self, node: gs.Node) -> list[Parts]:
        return [parts for _, parts in self._split_pairs(node)]

    def _split_only_first(self, node: gs.Node) -> Parts:
        if node.inputs[0].name not in self.parts or len(self._split_pairs(node)) != 1:
            raise CannotSplitError
        return self.parts[node.inputs[0].name]

    def _same_sizes(self, node: gs.Node) -> None:
        if len({parts.sizes for parts in self._split_inputs(node)}) != 1:
            raise CannotSplitError

    def _shape(self, tensor: gs.Tensor) -> tuple[Size, ...]:
        shape = self.probe.shape(tensor.name)
        if shape is None:
            raise CannotSplitError
        return shape

    def _rank(self, tensor: gs.Tensor) -> int:
        return len(self._shape(tensor))

    def _positive(self, axis: int, tensor: gs.Tensor) -> int:
        shape = self.probe.dims.get(tensor.name)
        return axis if axis >= 0 or shape is None else axis + len(shape)

    @staticmethod
    def _constant(node: gs.Node, place: int) -> list[int]:
        """The elements of a constant integer input."""
        if len(node.inputs) <= place or not isinstance(node.inputs[place], gs.Constant):
            raise CannotSplitError
        return [int(element) for element in np.asarray(node.inputs[place].values).reshape(-1)]

    def _slice_axes(self, node: gs.Node) -> list[int] | None:
        """The axes of a Slice with steps of 1, else None."""
        try:
            steps = self._constant(node, 4) if len(node.inputs) > 4 else [1]
            rank = self._rank(node.inputs[0])
            axes = [axis % rank for axis in self._constant(node, 3)] if len(node.inputs) > 3 else None
        except CannotSplitError:
            return None
        return axes if set(steps) == {1} else None
