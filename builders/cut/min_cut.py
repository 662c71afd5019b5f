"""Finds where to cut: the cheapest tensors that separate the work of one role from the rest, by a minimum cut."""

from __future__ import annotations

from typing import Literal

import networkx
import onnx

from cleave.builders.cost import flops as cost
from cleave.builders.cut.labels import Labels
from cleave.builders.errors import BuilderError
from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.batch_axis import batch_axis_of
from cleave.builders.onnx_graph.operators import operator
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.scopes import is_within, scope_of
from cleave.builders.onnx_graph.sizes import Size
from cleave.builders.spec import Ranker

FLOPS_PER_KEPT_BYTE = 4
"""A byte kept per user is read from the store, sent and copied with each request: as dear as this many FLOPs."""
TOUCHED_BYTES_PER_KEPT_BYTE = 64
"""A byte that a repeated node writes costs this much less than a byte kept."""
SOURCE, SINK = "computed before", "computed with the pair"
INFINITE = float("inf")


class SplitError(BuilderError):
    """The graph cannot be cut."""


class MinCut:
    """The minimum cut between what depends on one role alone and everything else.

    Every tensor that could be kept costs its bytes, every node that would be repeated with each request costs its
    work, and matrix products are never repeated.

    Args:
        role: "user" for what is kept as the summary, "candidate" for what is kept in a table of items.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        ranker: Ranker,
        labels: Labels,
        probe: Probe,
        role: Literal["user", "candidate"] = "user",
    ) -> None:
        self.model = model
        self.ranker = ranker
        self.labels = labels
        self.probe = probe
        self.sizes = {BATCH: 1, **ranker.sizes("opt")}
        self.role = role
        self.paths = ranker.boundary if role == "user" else ()
        self.inputs = [tensor.name for tensor in (ranker.user if role == "user" else ranker.candidate)]
        self.nodes = [node for node in model.graph.node if self._is_own(node.output[0])]
        self.named = self._named_tensors()
        self.after_named = self._made_of(self.named)

    def kept_tensors(self) -> list[str]:
        """The names of the tensors to keep, in graph order.

        Raises:
            SplitError: something that is needed with each request can neither be kept nor repeated.
        """
        graph = networkx.DiGraph()
        graph.add_nodes_from([SOURCE, SINK])
        for name in self.inputs:
            self._add_edge(graph, SOURCE, ("tensor", name), self._bytes(name))
        for index, node in enumerate(self.nodes):
            vertex = ("node", index)
            self._add_edge(graph, SOURCE, vertex, self._cost_of_repeating(node))
            for name in node.output:
                self._add_edge(graph, vertex, ("tensor", name), self._bytes(name))
            for name in node.input:
                if self._is_own(name):
                    self._add_edge(graph, ("tensor", name), vertex, INFINITE)
        for name in self._read_by_rest():
            self._add_edge(graph, ("tensor", name), SINK, INFINITE)
        try:
            _, (encoder_side, _) = networkx.minimum_cut(graph, SOURCE, SINK)
        except networkx.NetworkXUnbounded:
            raise SplitError(self._unbounded_message()) from None
        return [
            name
            for name, producer in self._produced()
            if ("tensor", name) in graph and ("tensor", name) not in encoder_side and producer in encoder_side
        ]

    def _is_own(self, tensor: str) -> bool:
        return self.labels.is_only(self.role, tensor)

    def _named_tensors(self) -> set[str]:
        """The outputs of the submodules that the ranker names as its boundary."""
        inside = {name: node for node in self.nodes if self._in_boundary(node) for name in node.output}
        read_outside = {
            name
            for node in self.model.graph.node
            if not self._in_boundary(node)
            for name in node.input
            if name in inside
        }
        for path in self.paths:
            if not any(is_within(scope_of(inside[name]), path) for name in read_outside):
                raise SplitError(
                    f"ranker {self.ranker.name!r}: boundary {path!r} has no output that depends on the user alone; "
                    "name a submodule that reads user tensors only"
                )
        return read_outside

    def _in_boundary(self, node: onnx.NodeProto) -> bool:
        return any(is_within(scope_of(node), path) for path in self.paths)

    def _made_of(self, tensors: set[str]) -> set[str]:
        """The tensors of the user alone that are computed from these."""
        made: set[str] = set()
        for node in self.nodes:
            if not self._in_boundary(node) and (tensors | made) & set(node.input):
                made.update(node.output)
        return made

    def _produced(self) -> list[tuple[str, object]]:
        pairs: list[tuple[str, object]] = [(name, SOURCE) for name in self.inputs]
        for index, node in enumerate(self.nodes):
            pairs += [(name, ("node", index)) for name in node.output]
        return pairs

    def _read_by_rest(self) -> list[str]:
        outputs = {output.name for output in self.model.graph.output}
        names = [name for name in outputs if self._is_own(name)]
        for node in self.model.graph.node:
            if self.labels.of(node.output[0]).roles and not self._is_own(node.output[0]):
                names += [name for name in node.input if self._is_own(name)]
        return names

    @staticmethod
    def _add_edge(graph: networkx.DiGraph, start: object, end: object, capacity: float) -> None:
        if capacity == INFINITE:
            graph.add_edge(start, end)  # networkx takes an edge without capacity for an infinite one
        else:
            graph.add_edge(start, end, capacity=capacity)

    def _bytes(self, tensor: str) -> float:
        shape = self.probe.shape(tensor)
        if tensor in self.after_named or shape is None or not self._is_keepable(shape):
            return INFINITE
        kept = cost.bytes_of_tensor(tensor, self.probe, self.sizes)
        return kept if shape[0].axis == BATCH else kept * (1 + 1 / TOUCHED_BYTES_PER_KEPT_BYTE)

    def _is_keepable(self, shape: tuple[Size, ...]) -> bool:
        """Whether a tensor has a row per user, wherever the batch axis is, or for items a row of a fixed size each."""
        if self.role == "user":
            return batch_axis_of(shape) is not None
        if not shape or shape[0].axis != BATCH:
            return False
        varying = [size.axis for size in shape[1:] if size.constant is None]
        return varying == [self.ranker.candidate_axis.name]

    def _cost_of_repeating(self, node: onnx.NodeProto) -> float:
        """The cost in kept bytes: infinite for products, which the cut is to save, unless the ranker names them."""
        if node.output[0] in self.after_named:
            return 0.0
        if operator(node.op_type).is_product or self._in_boundary(node):
            return INFINITE
        try:
            flops = cost.flops_of_node(node, self.probe).at(self.sizes)
        except cost.UncountedError:
            return INFINITE
        written = sum(cost.bytes_of_tensor(name, self.probe, self.sizes) for name in node.output if name)
        return flops / FLOPS_PER_KEPT_BYTE + written / TOUCHED_BYTES_PER_KEPT_BYTE

    def _unbounded_message(self) -> str:
        stuck = [
            f"{name} {[str(size) for size in self.probe.dims.get(name, ())]}"
            for name in self._read_by_rest()
            if self._bytes(name) == INFINITE
        ]
        if self.role == "user":
            expected = "tensors of one row per user; keep the batch an axis of its own in the module"
        else:
            expected = "tensors of the batch, the candidates and fixed sizes; give every candidate a row of its own"
        return (
            f"ranker {self.ranker.name!r}: the scorer reads what depends on the {self.role} alone but cannot be kept "
            f"apart: {'; '.join(stuck)}; expected {expected}"
        )
