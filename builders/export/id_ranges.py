"""Resolves the ids of a ranker: which integers an input may hold, read from the embedding tables of its graph."""

from __future__ import annotations

import dataclasses

import onnx

from cleave.builders.onnx_graph.operators import operator
from cleave.builders.spec import Ranker, Tensor


def with_id_ranges(ranker: Ranker, model: onnx.ModelProto) -> Ranker:
    """The ranker with `high` filled in for every integer input that looks up a table of the graph.

    Where an input looks up several tables, its `high` is the number of rows of the smallest one. A `high` of the spec
    stays as it is, and an input that looks up no table keeps None.

    Args:
        model: the graph of the whole model, made by `cleave.builders.export.torch_export.onnx_from_ranker`.
    """
    tables = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}

    def resolved(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(
            tensor
            if tensor.high is not None or not tensor.dtype.startswith(("int", "uint"))
            else dataclasses.replace(tensor, high=_num_rows(tensor.name, model.graph, tables))
            for tensor in tensors
        )

    return dataclasses.replace(
        ranker, user=resolved(ranker.user), request=resolved(ranker.request), candidate=resolved(ranker.candidate)
    )


def _num_rows(name: str, graph: onnx.GraphProto, tables: dict[str, tuple[int, ...]]) -> int | None:
    """The rows of the smallest table that the values of an input look up; None if they look up none."""
    reached = {name}
    rows = []
    for node in graph.node:
        if node.op_type == "Gather" and node.input[1] in reached and node.input[0] in tables:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            rows.append(tables[node.input[0]][axis])
        elif operator(node.op_type).keeps_ids and reached & set(node.input):
            reached.update(node.output)
    return min(rows, default=None)
