"""Small edits of ONNX graphs that several passes share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import helper
from onnx_graphsurgeon.logger import G_LOGGER

G_LOGGER.severity = G_LOGGER.ERROR
"""Keeps graphsurgeon from printing to stdout, where results go, that numpy has no bfloat16."""

Pass = Callable[[onnx.ModelProto], onnx.ModelProto]
"""From a graph to an equal one; the given graph stays as it is."""

Step = tuple[str, Sequence[str], str, Mapping[str, Any]]
"""A node to be made: operator, inputs, output, attributes."""


def nodes_of_steps(steps: Iterable[Step], scope: str) -> list[onnx.NodeProto]:
    """A node for each step, called `scope` and its output."""
    return [
        helper.make_node(op, inputs, [output], f"{scope}/{output}", **attributes)
        for op, inputs, output, attributes in steps
    ]


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, which may be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def applied(passes: Iterable[Pass], model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph after one pass after another."""
    for each in passes:
        model = each(model)
    return model


def number_names(graph: onnx.GraphProto, name_of: Callable[[onnx.NodeProto], str]) -> None:
    """Name every node of a graph: the second node of a name gets `_2` behind it, and so on."""
    taken: Counter[str] = Counter()
    for node in graph.node:
        name = name_of(node)
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"


def read_instead(tensor: gs.Tensor, other: gs.Tensor) -> None:
    """Let every node that reads a tensor read another one."""
    for reader in list(tensor.outputs):
        reader.inputs = [other if given is tensor else given for given in reader.inputs]


def rename_tensors(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Rename tensors wherever these nodes read or write them; subgraphs of nodes are left alone."""
    for node in nodes:
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                field[place] = names.get(name, name)


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Replace all nodes of a graph; weights that none of the new nodes reads, and shapes of tensors, are dropped."""
    read = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The ONNX type of the elements of every tensor of a graph, by name."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def exported(graph: gs.Graph, source: onnx.ModelProto) -> onnx.ModelProto:
    """An edited graph as ONNX, without nodes and weights that nothing reads.

    Args:
        source: the model that the graph was imported from, whose version of the format is kept.
    """
    graph.cleanup(remove_unused_graph_inputs=False).toposort()
    model: onnx.ModelProto = gs.export_onnx(graph)
    model.ir_version, model.producer_name = source.ir_version, "cleave"
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return model
