"""Moves the item tower to build time: its results for every item of a catalogue become a table in the scorer.

    candidate id -> row of the table        where all candidates are in the catalogue: no item work at all
                 -> item tower, otherwise   for the candidates that are not

Both give the same scores: the table holds what the tower computes from the catalogue's own features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cleave.builders.cut.cut import Cut
from cleave.builders.cut.min_cut import MinCut, SplitError
from cleave.builders.cut.subgraph import extract_graph
from cleave.builders.cut.summary import SummaryTensor, name_summary
from cleave.builders.errors import BuilderError
from cleave.builders.names import CANDIDATE_SCORER, model_name
from cleave.builders.onnx_graph.edit import Step, nodes_of_steps, rename_tensors
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.spec import Ranker, Tensor

ITEMS_PER_RUN = 4096
LARGEST_ID = 1 << 27
"""Ids index an array of row numbers, which beyond this would be larger than any table."""


class ItemTableError(BuilderError):
    """The item tower cannot be moved to build time, or not for this catalogue."""


@dataclass(frozen=True)
class ItemTower:
    """The candidate scorer in two graphs: what depends on the item alone, and the rest."""

    tower: onnx.ModelProto
    """The graph from candidate inputs to item tensors."""
    pair_scorer: onnx.ModelProto
    """The graph from summary, request inputs and item tensors to outputs."""
    tensors: tuple[SummaryTensor, ...]
    """The item tensors `[batch, candidates, ...]`; the candidate axis may stand behind axes of fixed size."""

    @property
    def bytes_per_item(self) -> int:
        """Bytes of one row of the table."""
        return sum(tensor.bytes_at(dict.fromkeys(_axes(tensor), 1)) for tensor in self.tensors)


def _axes(tensor: SummaryTensor) -> set[str]:
    return {axis for size in tensor.dims for axis in size.axes}


def _item_axis(tensor: SummaryTensor) -> int:
    """The axis of an item tensor that counts candidates. In its table, which has no batch axis, it is one less."""
    return next(place for place, size in enumerate(tensor.dims) if place and size.constant is None)


def split_item_tower(cut: Cut) -> ItemTower:
    """Cut the scorer once more, where the item alone ends.

    Raises:
        ItemTableError: what depends on the item alone cannot be written as one row per item.
    """
    ranker = cut.ranker
    model, labels, probe = cut.analysis
    try:
        kept = MinCut(model, ranker, labels, probe, "candidate").kept_tensors()
    except SplitError as error:
        raise ItemTableError(str(error)) from error
    tensors = tuple(
        dataclasses.replace(tensor, name=f"item_{tensor.name}") for tensor in name_summary(kept, model, probe, ranker)
    )
    names = {tensor.source: tensor.name for tensor in tensors}
    summary = {tensor.source: tensor.name for tensor in cut.summary}
    tower = extract_graph(
        *cut.analysis,
        inputs=[tensor.name for tensor in ranker.candidate],
        outputs=names,
        renamed={},
        name=f"{ranker.name}_item_tower",
    )
    pair_scorer = extract_graph(
        *cut.analysis,
        inputs=[*summary, *(tensor.name for tensor in ranker.request), *names],
        outputs={tensor.name: tensor.name for tensor in ranker.output},
        renamed={**summary, **names},
        name=model_name(ranker.name, CANDIDATE_SCORER),
    )
    return ItemTower(tower, pair_scorer, tensors)


def id_tensor(ranker: Ranker) -> Tensor:
    """The candidate input that names the item: the first one that holds one integer for each candidate.

    Raises:
        ItemTableError: there is none.
    """
    for tensor in ranker.candidate:
        if len(tensor.axes) == 1 and tensor.dtype.startswith("int"):
            return tensor
    raise ItemTableError(
        f"ranker {ranker.name!r}: no candidate input holds one integer id a candidate, so rows cannot be looked up by "
        "item; add an id input, or build without --catalogue"
    )


def with_item_table(cut: Cut, catalogue: Mapping[str, AnyArray]) -> Cut:
    """The cut with the item tower's results for a catalogue baked into the candidate scorer.

    Args:
        catalogue: every candidate input by name, `[items, ...]`, each id once (`builders.cut.item_catalogue`).

    Raises:
        ItemTableError: see `split_item_tower` and `id_tensor`; or an id is too large for a table.
    """
    ids_of = id_tensor(cut.ranker)
    items = _with_padding(cut.ranker, catalogue, ids_of)
    ids = items[ids_of.name].astype(np.int64)
    if ids.max() > LARGEST_ID:
        raise ItemTableError(
            f"catalogue: {ids_of.name}: expected ids up to {LARGEST_ID:,}, got {ids.max():,}; number the items densely"
        )
    parts = split_item_tower(cut)
    rows_of_ids = np.full(ids.max() + 2, -1, np.int32)
    rows_of_ids[ids] = np.arange(len(ids), dtype=np.int32)
    scorer = _merge(parts, cut.candidate_scorer, ids_of, rows_of_ids, _run_tower(parts, items))
    return cut.with_graphs({CANDIDATE_SCORER: scorer})


def _with_padding(ranker: Ranker, catalogue: Mapping[str, AnyArray], ids_of: Tensor) -> Arrays:
    """The catalogue with the item that requests are padded with, so that padding needs no tower either."""
    if ids_of.pad in catalogue[ids_of.name]:
        return dict(catalogue)
    padding = {
        tensor.name: np.full((1, *catalogue[tensor.name].shape[1:]), tensor.pad, tensor.numpy_dtype)
        for tensor in ranker.candidate
    }
    return {name: np.concatenate((padding[name], values)) for name, values in catalogue.items()}


def _run_tower(parts: ItemTower, items: Mapping[str, AnyArray]) -> Arrays:
    """The table of each item tensor: it has all items where the tensor has candidates, and no batch axis."""
    runner = OnnxRunner(parts.tower)
    count = len(next(iter(items.values())))
    runs = [
        runner({name: values[None, first : first + ITEMS_PER_RUN] for name, values in items.items()})
        for first in range(0, count, ITEMS_PER_RUN)
    ]
    return {
        tensor.name: np.concatenate([run[tensor.name][0] for run in runs], axis=_item_axis(tensor) - 1)
        for tensor in parts.tensors
    }


def _merge(
    parts: ItemTower, scorer: onnx.ModelProto, ids_of: Tensor, rows_of_ids: AnyArray, tables: Arrays
) -> onnx.ModelProto:
    """The pair scorer behind a choice between table and tower. Its inputs and outputs are those of `scorer`."""
    merged = onnx.ModelProto()
    merged.CopyFrom(parts.pair_scorer)
    graph = merged.graph
    del graph.input[:]
    graph.input.extend(scorer.graph.input)
    nodes = [*_row_nodes(graph, ids_of, rows_of_ids)]
    for name, table in tables.items():
        graph.initializer.append(numpy_helper.from_array(table, _table_name(name)))
    nodes.append(
        helper.make_node(
            "If",
            ["lookup_all_known"],
            [tensor.name for tensor in parts.tensors],
            "lookup/If",
            then_branch=_table_branch(parts),
            else_branch=_tower_branch(parts),
        )
    )
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    onnx.checker.check_model(merged)
    return merged


def _table_name(tensor: str) -> str:
    return f"table_{tensor}"


def _constant(graph: onnx.GraphProto, name: str, value: AnyArray) -> str:
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _row_nodes(graph: onnx.GraphProto, ids_of: Tensor, rows_of_ids: AnyArray) -> list[onnx.NodeProto]:
    """Nodes for `lookup_rows` `[batch, candidates]`, -1 where an item is not in the table, and `lookup_all_known`."""
    zero = _constant(graph, "lookup_zero", np.array(0, np.int64))
    beyond = _constant(graph, "lookup_beyond", np.array(len(rows_of_ids) - 1, np.int64))
    rows = _constant(graph, "lookup_rows_of_ids", rows_of_ids)
    no_row = _constant(graph, "lookup_no_row", np.array(0, np.int32))
    steps: list[Step] = [
        ("Cast", [ids_of.name], "lookup_ids", {"to": TensorProto.INT64}),
        ("Less", ["lookup_ids", zero], "lookup_negative", {}),
        ("Greater", ["lookup_ids", beyond], "lookup_large", {}),
        ("Or", ["lookup_negative", "lookup_large"], "lookup_outside", {}),
        ("Where", ["lookup_outside", beyond, "lookup_ids"], "lookup_clipped", {}),
        ("Gather", [rows, "lookup_clipped"], "lookup_rows", {"axis": 0}),
        ("GreaterOrEqual", ["lookup_rows", no_row], "lookup_known", {}),
        ("ReduceMin", ["lookup_rows"], "lookup_least", {"keepdims": 0}),
        ("GreaterOrEqual", ["lookup_least", no_row], "lookup_all_known", {}),
    ]
    return nodes_of_steps(steps, "lookup")


def _table_branch(parts: ItemTower) -> onnx.GraphProto:
    """The branch for requests whose candidates are all in the table."""
    nodes = [node for t in parts.tensors for node in _table_nodes(t, "lookup_rows", f"{t.name}_looked_up")]
    return helper.make_graph(nodes, "table", [], [t.value_info(f"{t.name}_looked_up") for t in parts.tensors])


def _table_nodes(tensor: SummaryTensor, rows: str, output: str) -> list[onnx.NodeProto]:
    """Nodes that read rows `[batch, candidates]` of a table; the candidate axis is where the tower has it."""
    axis = _item_axis(tensor) - 1
    gathered = output if axis == 0 else f"{output}_batch_inside"
    nodes = [helper.make_node("Gather", [_table_name(tensor.name), rows], [gathered], f"lookup/{gathered}", axis=axis)]
    if axis:
        perm = [axis, *range(axis), *range(axis + 1, len(tensor.dims))]
        nodes.append(helper.make_node("Transpose", [gathered], [output], f"lookup/{output}", perm=perm))
    return nodes


def _tower_branch(parts: ItemTower) -> onnx.GraphProto:
    """The branch for other requests: the tower computes all candidates, and the table replaces those that it has."""
    tower = parts.tower.graph
    nodes = list(tower.node)
    initializers = list(tower.initializer)
    zero_row = "lookup_first_row"
    nodes.append(helper.make_node("Max", ["lookup_rows", "lookup_no_row"], [zero_row], "lookup/first_row"))
    for tensor in parts.tensors:
        found = f"{tensor.name}_found"
        known = "lookup_known"
        others = [place for place in range(1, len(tensor.dims)) if place != _item_axis(tensor)]
        if others:
            axes = numpy_helper.from_array(np.array(others, np.int64), f"{tensor.name}_axes")
            initializers.append(axes)
            known = f"{tensor.name}_known"
            nodes.append(helper.make_node("Unsqueeze", ["lookup_known", axes.name], [known], f"lookup/{known}"))
        nodes += _table_nodes(tensor, zero_row, found)
        chosen = f"{tensor.name}_chosen"
        nodes.append(helper.make_node("Where", [known, found, tensor.name], [chosen], f"lookup/{chosen}"))
    outputs = [tensor.value_info(f"{tensor.name}_chosen") for tensor in parts.tensors]
    branch = helper.make_graph(nodes, "tower", [], outputs, initializers)
    return _prefixed(branch, {value.name for value in tower.input})


def _prefixed(branch: onnx.GraphProto, captured: set[str]) -> onnx.GraphProto:
    """The branch with names of its own: a subgraph may not redefine a name of the graph around it."""
    own = {name for node in branch.node for name in node.output} | {tensor.name for tensor in branch.initializer}
    renamed = {name: f"tower_{name}" for name in own - captured}
    rename_tensors(branch.node, renamed)
    for node in branch.node:
        node.name = f"tower/{node.name}"
    for entry in (*branch.initializer, *branch.output):
        entry.name = renamed.get(entry.name, entry.name)
    return branch
