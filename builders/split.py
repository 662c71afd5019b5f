"""The cut: divides the graph of a whole model into history encoder, item tower and candidate scorer.

Binding-time analysis (`builders.labels`) says which nodes depend on the user alone. Where exactly to cut among them is
a minimum cut: every tensor that could be kept costs its bytes, every node that the scorer would repeat costs its work,
and the cheapest set of tensors that separates the encoder from the scorer is the summary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import networkx
import onnx

from builders import cost
from builders.cost import ArmFlops, Flops
from builders.errors import BuilderError
from builders.export import highs_from_graph, onnx_from_ranker
from builders.extract import extract_graph
from builders.labels import Labels
from builders.optimize import additive_masks
from builders.rows import split_rows
from builders.sizes import Probe, Size, probe, product
from builders.spec import BATCH, Ranker

FLOPS_PER_KEPT_BYTE = 4
"""A byte kept per user is read from the store, sent and copied with each request: as dear as this many FLOPs."""
TOUCHED_BYTES_PER_KEPT_BYTE = 64
"""A byte that a repeated node writes costs this much less than a byte kept."""
SOURCE, SINK = "encoder side", "scorer side"


class SplitError(BuilderError):
    """The graph cannot be cut."""


@dataclass(frozen=True)
class SummaryTensor:
    """A tensor that crosses the cut: an output of the history encoder and an input of the candidate scorer."""

    name: str
    dtype: str
    dims: tuple[Size, ...]
    """The shape with the batch axis."""
    source: str
    """Its name in the graph of the whole model."""

    def bytes_at(self, sizes: Mapping[str, int], item_bytes: int) -> int:
        """The bytes of one user."""
        return product(self.dims).at({BATCH: 1, **sizes}) * item_bytes


@dataclass(frozen=True)
class Mix:
    """The first node that reads user data and candidate data, and the inputs of the ranker these are made of."""

    node: str
    op: str
    module: str
    """The torch module that the node comes from."""
    user_inputs: tuple[str, ...]
    candidate_inputs: tuple[str, ...]


@dataclass(frozen=True)
class Cut:
    """A ranker's whole model and its parts."""

    ranker: Ranker
    whole: onnx.ModelProto
    history_encoder: onnx.ModelProto
    candidate_scorer: onnx.ModelProto
    """Includes the item tower: the work that depends on the candidates alone."""
    summary: tuple[SummaryTensor, ...]
    flops: dict[str, Flops]
    """`whole`, `history_encoder`, `item_tower` and, without it, `candidate_scorer`."""
    item_bytes: dict[str, int]
    """Bytes of one element of each summary tensor."""
    first_mix: Mix | None

    def summary_bytes(self, sizes: Mapping[str, int]) -> int:
        """The bytes kept for one user at these sizes."""
        return sum(tensor.bytes_at(sizes, self.item_bytes[tensor.name]) for tensor in self.summary)

    def arms(self, sizes: Mapping[str, int]) -> ArmFlops:
        """The FLOPs of each way to serve one request of these sizes."""
        axis = self.ranker.candidate_axis.name
        encoder, items, scorer = (
            self.flops[part].at(sizes) for part in ("history_encoder", "item_tower", "candidate_scorer")
        )
        return ArmFlops(
            per_candidate=sizes[axis] * self.flops["whole"].at({**sizes, axis: 1}),
            single_pass=self.flops["whole"].at(sizes),
            uncached=encoder + items + scorer,
            cached=items + scorer,
        )


def split(whole: onnx.ModelProto, ranker: Ranker, highs: Mapping[str, int]) -> Cut:
    """Cut the graph of a whole model.

    Args:
        whole: made by `builders.export.onnx_from_ranker`.
        highs: upper ends of ids, from `builders.export.highs_from_graph`.

    Raises:
        SplitError: no user input reaches an output, or the scorer needs something of the user that cannot be kept.
    """
    whole_probe = probe(whole, ranker, highs)
    labels = Labels(whole, ranker, whole_probe)
    _check_user_reaches_output(ranker, labels)
    model = split_rows(whole, whole_probe, labels)
    model_probe = whole_probe
    if model is not whole:
        model_probe = probe(model, ranker, highs)
        labels = Labels(model, ranker, model_probe)
    kept = _Boundary(model, ranker, labels, model_probe).kept_tensors()
    summary = _name_summary(kept, model, model_probe, ranker)
    encoder = extract_graph(
        model,
        labels,
        model_probe,
        inputs=[tensor.name for tensor in ranker.user],
        outputs={tensor.source: tensor.name for tensor in summary},
        renamed={},
        name=f"{ranker.name}_history_encoder",
    )
    scorer = extract_graph(
        model,
        labels,
        model_probe,
        inputs=[tensor.source for tensor in summary] + [tensor.name for tensor in ranker.request + ranker.candidate],
        outputs={tensor.name: tensor.name for tensor in ranker.output},
        renamed={tensor.source: tensor.name for tensor in summary},
        name=f"{ranker.name}_candidate_scorer",
    )
    return Cut(
        ranker=ranker,
        whole=whole,
        history_encoder=encoder,
        candidate_scorer=scorer,
        summary=summary,
        flops=_flops(whole, whole_probe, model, model_probe, labels, encoder, scorer),
        item_bytes={tensor.name: model_probe.item_bytes[tensor.source] for tensor in summary},
        first_mix=_first_mix(model, ranker, labels),
    )


def cut_ranker(ranker: Ranker) -> tuple[Cut, dict[str, int]]:
    """Export a ranker, optimize its graph and cut it.

    Returns:
        The cut, and the upper ends of the ids that its spec leaves open, for drawing inputs.

    Raises:
        ExportError, SplitError, ExtractError: the module, or its graph, cannot be cut.
    """
    exported = onnx_from_ranker(ranker)
    highs = highs_from_graph(exported, ranker)
    whole = additive_masks(exported, probe(exported, ranker, highs), ranker.sizes("opt"))
    return split(whole, ranker, highs), highs


def _check_user_reaches_output(ranker: Ranker, labels: Labels) -> None:
    names = ", ".join(tensor.name for tensor in ranker.user)
    if not any("user" in labels.of(tensor.name).roles for tensor in ranker.output):
        raise SplitError(
            f"ranker {ranker.name!r}: no user input ({names}) reaches an output, expected scores to depend on the "
            "user; correct the roles, or serve the model without cleave"
        )


class _Boundary:
    """The minimum cut between what depends on the user alone and everything else."""

    def __init__(self, model: onnx.ModelProto, ranker: Ranker, labels: Labels, probe: Probe) -> None:
        self.model = model
        self.ranker = ranker
        self.labels = labels
        self.probe = probe
        self.sizes = {BATCH: 1, **ranker.sizes("opt")}
        self.user_inputs = [tensor.name for tensor in ranker.user]
        self.user_nodes = [node for node in model.graph.node if self.labels.is_user(node.output[0])]
        self.named = self._named_tensors()
        self.after_named = self._made_of(self.named)

    def kept_tensors(self) -> list[str]:
        """The names of the tensors to keep, in graph order."""
        graph = networkx.DiGraph()
        graph.add_nodes_from([SOURCE, SINK])
        for name in self.user_inputs:
            self._add_edge(graph, SOURCE, ("tensor", name), self._bytes(name))
        for index, node in enumerate(self.user_nodes):
            vertex = ("node", index)
            self._add_edge(graph, SOURCE, vertex, self._cost_of_repeating(node))
            for name in node.output:
                self._add_edge(graph, vertex, ("tensor", name), self._bytes(name))
            for name in node.input:
                if self.labels.is_user(name):
                    self._add_edge(graph, ("tensor", name), vertex, float("inf"))
        for name in self._read_by_scorer():
            self._add_edge(graph, ("tensor", name), SINK, float("inf"))
        try:
            _, (encoder_side, _) = networkx.minimum_cut(graph, SOURCE, SINK)
        except networkx.NetworkXUnbounded:
            raise SplitError(self._unbounded_message()) from None
        return [
            name
            for name, producer in self._produced()
            if ("tensor", name) in graph and ("tensor", name) not in encoder_side and producer in encoder_side
        ]

    def _named_tensors(self) -> set[str]:
        """The outputs of the submodules that the ranker names as its boundary."""
        inside = {name: node for node in self.user_nodes if self._in_boundary(node) for name in node.output}
        read_outside = {
            name
            for node in self.model.graph.node
            if not self._in_boundary(node)
            for name in node.input
            if name in inside
        }
        for path in self.ranker.boundary:
            if not any(_is_within(_scope(inside[name]), path) for name in read_outside):
                raise SplitError(
                    f"ranker {self.ranker.name!r}: boundary {path!r} has no output that depends on the user alone; "
                    "name a submodule that reads user tensors only"
                )
        return read_outside

    def _in_boundary(self, node: onnx.NodeProto) -> bool:
        return any(_is_within(_scope(node), path) for path in self.ranker.boundary)

    def _made_of(self, tensors: set[str]) -> set[str]:
        """The tensors of the user alone that are computed from these."""
        made: set[str] = set()
        for node in self.user_nodes:
            if not self._in_boundary(node) and (tensors | made) & set(node.input):
                made.update(node.output)
        return made

    def _produced(self) -> list[tuple[str, object]]:
        pairs: list[tuple[str, object]] = [(name, SOURCE) for name in self.user_inputs]
        for index, node in enumerate(self.user_nodes):
            pairs += [(name, ("node", index)) for name in node.output]
        return pairs

    def _read_by_scorer(self) -> list[str]:
        outputs = {output.name for output in self.model.graph.output}
        names = [name for name in outputs if self.labels.is_user(name)]
        for node in self.model.graph.node:
            if self.labels.of(node.output[0]).roles and not self.labels.is_user(node.output[0]):
                names += [name for name in node.input if self.labels.is_user(name)]
        return names

    @staticmethod
    def _add_edge(graph: networkx.DiGraph, start: object, end: object, capacity: float) -> None:
        if capacity == float("inf"):
            graph.add_edge(start, end)  # networkx takes an edge without capacity for an infinite one
        else:
            graph.add_edge(start, end, capacity=capacity)

    def _bytes(self, tensor: str) -> float:
        """Only tensors of one row per user, and no other trace of the batch, can be kept apart."""
        shape = self.probe.shape(tensor)
        if (
            tensor in self.after_named
            or shape is None
            or not shape
            or shape[0].axis != BATCH
            or any(BATCH in size.axes for size in shape[1:])
        ):
            return float("inf")
        return cost.bytes_of_tensor(tensor, self.probe, self.sizes)

    def _cost_of_repeating(self, node: onnx.NodeProto) -> float:
        """In kept bytes; infinite for products, which are what the cut is there to save, unless the ranker says so."""
        if node.output[0] in self.after_named:
            return 0.0
        if node.op_type in cost.MATRIX_PRODUCTS or self._in_boundary(node):
            return float("inf")
        try:
            flops = cost.flops_of_node(node, self.probe).at(self.sizes)
        except cost.UncountedError:
            return float("inf")
        written = sum(cost.bytes_of_tensor(name, self.probe, self.sizes) for name in node.output if name)
        return flops / FLOPS_PER_KEPT_BYTE + written / TOUCHED_BYTES_PER_KEPT_BYTE

    def _unbounded_message(self) -> str:
        stuck = [
            f"{name} {[str(size) for size in self.probe.dims.get(name, ())]}"
            for name in self._read_by_scorer()
            if self._bytes(name) == float("inf")
        ]
        return (
            f"ranker {self.ranker.name!r}: the scorer reads what depends on the user but cannot be kept per user: "
            f"{'; '.join(stuck)}; expected tensors whose first axis, and only that, is the batch; "
            "keep the batch axis first in the module"
        )


def _name_summary(kept: list[str], model: onnx.ModelProto, probe: Probe, ranker: Ranker) -> tuple[SummaryTensor, ...]:
    producers = {name: node for node in model.graph.node for name in node.output}
    dtypes = _dtypes(model, kept)
    taken = Counter(tensor.name for _, tensor in ranker.tensors())
    summary = []
    for source in kept:
        name = _semantic_name(source, producers, ranker, dtypes[source])
        taken[name] += 1
        unique = name if taken[name] == 1 else f"{name}_{taken[name]}"
        shape = probe.shape(source)
        assert shape is not None
        summary.append(SummaryTensor(unique, dtypes[source], shape, source))
    return tuple(summary)


def _semantic_name(source: str, producers: Mapping[str, onnx.NodeProto], ranker: Ranker, dtype: str) -> str:
    """After the boundary or the module whose product it is, else after the input that it is made of."""
    inputs = [tensor.name for tensor in ranker.inputs]
    name = source
    while name in producers:
        node = producers[name]
        for path in ranker.boundary:
            if _is_within(_scope(node), path):
                return path.replace(".", "_")
        if node.op_type in cost.MATRIX_PRODUCTS and dtype != "bool":
            return _scope(node).replace(".", "_")
        name = next((entry for entry in node.input if entry in producers or entry in inputs), "")
    if not name:
        return _scope(producers[source]).replace(".", "_")
    return f"{name}_mask" if dtype == "bool" else f"kept_{name}"


def _scope(node: onnx.NodeProto) -> str:
    """The torch module that a node comes from: what its name begins with."""
    return node.name.split("/")[0]


def _is_within(scope: str, path: str) -> bool:
    return scope == path or scope.startswith(f"{path}.")


def _dtypes(model: onnx.ModelProto, names: list[str]) -> dict[str, str]:
    inferred = onnx.shape_inference.infer_shapes(model)
    values = {v.name: v for v in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)}
    return {name: str(onnx.helper.tensor_dtype_to_np_dtype(values[name].type.tensor_type.elem_type)) for name in names}


def _flops(
    whole: onnx.ModelProto,
    whole_probe: Probe,
    model: onnx.ModelProto,
    model_probe: Probe,
    labels: Labels,
    encoder: onnx.ModelProto,
    scorer: onnx.ModelProto,
) -> dict[str, Flops]:
    nodes = {node.name: node for node in model.graph.node}
    in_scorer = [nodes[node.name] for node in scorer.graph.node if node.name in nodes]
    items = [node for node in in_scorer if labels.roles_in_effect(labels.of(node.output[0])) == {"candidate"}]
    item_names = {node.name for node in items}
    return {
        "whole": Flops.of(whole.graph.node, whole_probe),
        "history_encoder": Flops.of(
            [nodes[node.name] for node in encoder.graph.node if node.name in nodes], model_probe
        ),
        "item_tower": Flops.of(items, model_probe),
        "candidate_scorer": Flops.of([node for node in in_scorer if node.name not in item_names], model_probe),
    }


def _first_mix(model: onnx.ModelProto, ranker: Ranker, labels: Labels) -> Mix | None:
    made_of: dict[str, frozenset[str]] = {tensor.name: frozenset({tensor.name}) for tensor in ranker.inputs}
    for node in model.graph.node:
        inputs = frozenset[str]().union(*(made_of.get(name, frozenset()) for name in node.input))
        if {"user", "candidate"} <= labels.union(node.input).roles:
            user, candidate = (
                tuple(tensor.name for tensor in tensors if tensor.name in inputs)
                for tensors in (ranker.user, ranker.candidate)
            )
            return Mix(node.name, node.op_type, _scope(node), user, candidate)
        made_of.update({name: inputs for name in node.output if labels.of(name).roles})
    return None
