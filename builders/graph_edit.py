"""Small edits of ONNX graphs that several rewrites share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx
from onnx import helper

Step = tuple[str, Sequence[str], str, Mapping[str, Any]]
"""Operator, inputs, output, attributes."""


def nodes_of_steps(steps: Iterable[Step], scope: str) -> list[onnx.NodeProto]:
    """A node for each step, named after its output."""
    return [
        helper.make_node(op, inputs, [output], f"{scope}/{output}", **attributes)
        for op, inputs, output, attributes in steps
    ]


def rename_tensors(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Call tensors otherwise wherever these nodes read or write them; subgraphs of nodes are left alone."""
    for node in nodes:
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                field[place] = names.get(name, name)
