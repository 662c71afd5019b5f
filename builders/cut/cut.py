"""Divides the graph of a whole model into history encoder, item tower and candidate scorer.

Binding-time analysis (`cleave.builders.cut.labels`) says which nodes depend on the user alone, a minimum cut among them
(`cleave.builders.cut.min_cut`) which of their results are kept, and `cleave.builders.cut.subgraph` makes each part a
graph of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import onnx

from cleave.builders.cost.flops import Flops
from cleave.builders.cost.kernels import KernelSet, kernels_from_nodes
from cleave.builders.cut.joint_sequence import split_rows
from cleave.builders.cut.labels import Labels
from cleave.builders.cut.linear_layers import split_linear_layers
from cleave.builders.cut.min_cut import MinCut, SplitError
from cleave.builders.cut.subgraph import extract_graph
from cleave.builders.cut.summary import SummaryTensor, name_summary
from cleave.builders.export.id_ranges import with_id_ranges
from cleave.builders.export.torch_export import onnx_from_ranker
from cleave.builders.names import CANDIDATE_SCORER, HISTORY_ENCODER, WHOLE, model_name
from cleave.builders.onnx_graph.edit import applied
from cleave.builders.onnx_graph.probe import Probe, probe
from cleave.builders.onnx_graph.scopes import scope_of
from cleave.builders.passes import before_cut
from cleave.builders.spec import Ranker


@dataclass(frozen=True)
class Mix:
    """The first node that reads user data and candidate data, and the inputs of the ranker these are made of."""

    node: str
    op: str
    module: str
    """The torch module that the node comes from."""
    user_inputs: tuple[str, ...]
    candidate_inputs: tuple[str, ...]


class Analysis(NamedTuple):
    """A graph with what is known of its tensors."""

    model: onnx.ModelProto
    labels: Labels
    probe: Probe


@dataclass(frozen=True)
class CutPart:
    """The whole model, or a part of it, as a graph of its own, and what is known of its work."""

    graph: onnx.ModelProto
    probe: Probe = field(repr=False)
    """The sizes of its tensors by the names that they have in the graph of the whole model."""
    flops: Flops
    kernels: KernelSet


@dataclass(frozen=True)
class Cut:
    """The whole model of a ranker, and the parts that it was cut into."""

    ranker: Ranker
    """It has its id ranges filled in."""
    parts: Mapping[str, CutPart]
    """The whole model, the history encoder and the candidate scorer, by their names in `cleave.builders.names`. The
    scorer includes the item tower. Each of them becomes a model of the repository; another part is another entry."""
    item_tower: Flops
    """The work in the candidate scorer that depends on the candidates alone."""
    summary: tuple[SummaryTensor, ...]
    first_mix: Mix | None
    analysis: Analysis = field(repr=False)
    """The graph that the parts were taken from: the whole model with its rows, and its linear layers, apart."""

    @property
    def whole(self) -> onnx.ModelProto:
        """The graph of the whole model."""
        return self.parts[WHOLE].graph

    @property
    def history_encoder(self) -> onnx.ModelProto:
        """The graph from user inputs to summary."""
        return self.parts[HISTORY_ENCODER].graph

    @property
    def candidate_scorer(self) -> onnx.ModelProto:
        """The graph from summary, request inputs and candidate inputs to outputs."""
        return self.parts[CANDIDATE_SCORER].graph

    @property
    def flops(self) -> dict[str, Flops]:
        """The FLOPs of each part by name."""
        return {name: part.flops for name, part in self.parts.items()}

    def with_graphs(self, graphs: Mapping[str, onnx.ModelProto]) -> Cut:
        """The cut with other graphs for some parts, by name. FLOPs and kernels stay those of the graphs before."""
        changed = {name: dataclasses.replace(self.parts[name], graph=graph) for name, graph in graphs.items()}
        return dataclasses.replace(self, parts={**self.parts, **changed})

    def summary_bytes(self, sizes: Mapping[str, int]) -> int:
        """The bytes kept for one user at these sizes."""
        return sum(tensor.bytes_at(sizes) for tensor in self.summary)


def split(whole: onnx.ModelProto, ranker: Ranker) -> Cut:
    """Cut the graph of a whole model.

    Args:
        whole: made by `cleave.builders.export.torch_export.onnx_from_ranker`.
        ranker: with its id ranges, from `cleave.builders.export.id_ranges.with_id_ranges`.

    Raises:
        SplitError: no user input reaches an output, or the scorer needs something of the user that cannot be kept.
    """
    of_whole = _analyze(whole, ranker)
    _check_user_reaches_output(ranker, of_whole.labels)
    analysis = _with_layers_apart(_with_rows_apart(of_whole, ranker), ranker)
    kept = MinCut(analysis.model, ranker, analysis.labels, analysis.probe).kept_tensors()
    summary = name_summary(kept, analysis.model, analysis.probe, ranker)
    scores = [tensor.name for tensor in ranker.output]
    encoder = extract_graph(
        *analysis,
        inputs=[tensor.name for tensor in ranker.user],
        outputs={tensor.source: tensor.name for tensor in summary},
        renamed={},
        name=model_name(ranker.name, HISTORY_ENCODER),
    )
    scorer = extract_graph(
        *analysis,
        inputs=[tensor.source for tensor in summary] + [tensor.name for tensor in ranker.request + ranker.candidate],
        outputs={name: name for name in scores},
        renamed={tensor.source: tensor.name for tensor in summary},
        name=model_name(ranker.name, CANDIDATE_SCORER),
    )
    return Cut(
        ranker=ranker,
        parts={
            WHOLE: _part(whole, scores, of_whole),
            HISTORY_ENCODER: _part(encoder, [tensor.source for tensor in summary], analysis),
            CANDIDATE_SCORER: _part(scorer, scores, analysis),
        },
        item_tower=Flops.of(_item_nodes(scorer, analysis), analysis.probe),
        summary=summary,
        first_mix=_first_mix(analysis.model, ranker, analysis.labels),
        analysis=analysis,
    )


def cut_ranker(ranker: Ranker) -> Cut:
    """Export a ranker, optimize its graph and cut it; the ranker of the cut has its id ranges filled in.

    Raises:
        ExportError, SplitError, ExtractError: the module, or its graph, cannot be cut.
    """
    exported = onnx_from_ranker(ranker)
    resolved = with_id_ranges(ranker, exported)
    whole = applied(before_cut(probe(exported, resolved), resolved.sizes("opt")), exported)
    return split(whole, resolved)


def _analyze(model: onnx.ModelProto, ranker: Ranker) -> Analysis:
    known = probe(model, ranker)
    return Analysis(model, Labels(model, ranker, known), known)


def _with_rows_apart(analysis: Analysis, ranker: Ranker) -> Analysis:
    """The graph with joint sequences taken apart: again and again, as a model may join its rows anew in each layer."""
    apart = split_rows(analysis.model, analysis.probe, analysis.labels)
    while apart is not analysis.model:
        analysis = _analyze(apart, ranker)
        apart = split_rows(analysis.model, analysis.probe, analysis.labels)
    return analysis


def _with_layers_apart(analysis: Analysis, ranker: Ranker) -> Analysis:
    """The graph with linear layers of concatenated features taken apart."""
    apart = split_linear_layers(analysis.model, analysis.probe, analysis.labels, ranker.sizes("opt"))
    return analysis if apart is analysis.model else _analyze(apart, ranker)


def _check_user_reaches_output(ranker: Ranker, labels: Labels) -> None:
    names = ", ".join(tensor.name for tensor in ranker.user)
    if not any("user" in labels.of(tensor.name).roles for tensor in ranker.output):
        raise SplitError(
            f"ranker {ranker.name!r}: no user input ({names}) reaches an output, expected scores to depend on the "
            "user; correct the roles, or serve the model without cleave"
        )


def _part(graph: onnx.ModelProto, outputs: Sequence[str], analysis: Analysis) -> CutPart:
    """A part of the analyzed graph. Its work is that of the nodes that it shares with it, whose sizes are known."""
    nodes = _nodes_in(graph, analysis)
    return CutPart(
        graph,
        analysis.probe,
        Flops.of(nodes, analysis.probe),
        kernels_from_nodes(nodes, outputs, analysis.model, analysis.probe),
    )


def _nodes_in(graph: onnx.ModelProto, analysis: Analysis) -> list[onnx.NodeProto]:
    names = {node.name for node in graph.graph.node}
    return [node for node in analysis.model.graph.node if node.name in names]


def _item_nodes(scorer: onnx.ModelProto, analysis: Analysis) -> list[onnx.NodeProto]:
    """The nodes of the scorer that depend on the candidates alone."""
    labels = analysis.labels
    return [
        node
        for node in _nodes_in(scorer, analysis)
        if labels.roles_in_effect(labels.of(node.output[0])) == {"candidate"}
    ]


def _first_mix(model: onnx.ModelProto, ranker: Ranker, labels: Labels) -> Mix | None:
    made_of: dict[str, frozenset[str]] = {tensor.name: frozenset({tensor.name}) for tensor in ranker.inputs}
    for node in model.graph.node:
        inputs = frozenset[str]().union(*(made_of.get(name, frozenset()) for name in node.input))
        if {"user", "candidate"} <= labels.union(node.input).roles:
            user, candidate = (
                tuple(tensor.name for tensor in tensors if tensor.name in inputs)
                for tensors in (ranker.user, ranker.candidate)
            )
            return Mix(node.name, node.op_type, scope_of(node), user, candidate)
        made_of.update({name: inputs for name in node.output if labels.of(name).roles})
    return None
