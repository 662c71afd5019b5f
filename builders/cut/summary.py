"""Describes the summary: the tensors that cross the cut, and their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.batch_axis import batch_axis_of
from cleave.builders.onnx_graph.operators import operator
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.scopes import is_within, scope_of
from cleave.builders.onnx_graph.sizes import Size, product
from cleave.builders.spec import Ranker


@dataclass(frozen=True)
class SummaryTensor:
    """A tensor that crosses the cut: an output of the history encoder and an input of the candidate scorer."""

    name: str
    dtype: str
    dims: tuple[Size, ...]
    """The shape, with the batch axis first."""
    source: str
    """Its name in the graph of the whole model, where the batch may be elsewhere (`onnx_graph.batch_axis`)."""

    def value_info(self, name: str | None = None) -> onnx.ValueInfoProto:
        """Its declaration as an input or output of a graph, by its own or another name."""
        dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        dims = [size.symbol for size in self.dims]
        return onnx.helper.make_tensor_value_info(name or self.name, dtype, dims)

    def bytes_at(self, sizes: Mapping[str, int]) -> int:
        """The bytes of one user."""
        return product(self.dims).at({BATCH: 1, **sizes}) * np.dtype(self.dtype).itemsize


def name_summary(kept: list[str], model: onnx.ModelProto, probe: Probe, ranker: Ranker) -> tuple[SummaryTensor, ...]:
    producers = {name: node for node in model.graph.node for name in node.output}
    taken = Counter(tensor.name for _, tensor in ranker.tensors())
    summary = []
    for source in kept:
        dtype = str(probe.dtypes[source])
        name = _semantic_name(source, producers, ranker, dtype)
        taken[name] += 1
        unique = name if taken[name] == 1 else f"{name}_{taken[name]}"
        axis = batch_axis_of(probe.shape(source) or ())
        assert axis is not None
        summary.append(SummaryTensor(unique, dtype, axis.batch_first, source))
    return tuple(summary)


def _semantic_name(source: str, producers: Mapping[str, onnx.NodeProto], ranker: Ranker, dtype: str) -> str:
    """A name after the boundary or the module that makes the tensor, else after the input that it is made of."""
    inputs = [tensor.name for tensor in ranker.inputs]
    name = source
    while name in producers:
        node = producers[name]
        for path in ranker.boundary:
            if is_within(scope_of(node), path):
                return path.replace(".", "_")
        if operator(node.op_type).is_product and dtype != "bool":
            return scope_of(node).replace(".", "_")
        name = next((entry for entry in node.input if entry in producers or entry in inputs), "")
    if not name:
        return scope_of(producers[source]).replace(".", "_")
    return f"{name}_mask" if dtype == "bool" else f"kept_{name}"
