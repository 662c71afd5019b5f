"""Where an exported graph is made for the sizes of its example: code that decides by a size when it is traced.

Python's `if` on a size is exported as the branch that the example took, and a size that became a number stays that
number. Exported with another example, the graph is another one there.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import onnx
from onnx import numpy_helper

from cleave.builders.errors import BuilderError
from cleave.builders.export.refusals import line_of
from cleave.builders.export.torch_export import example_inputs, example_sizes, traced_graph
from cleave.builders.spec import Ranker

Signature = tuple[str | bytes | None, ...]
"""What tells a node from another: its operator, its attributes, and the small constants that it reads."""

SMALL = 64
"""Elements; larger constants are weights, which no example changes."""


def what_an_example_fixed(ranker: Ranker) -> str | None:
    """What is exported otherwise with an example of other sizes, in words; None if nothing is, or can be."""
    small = example_sizes(ranker)
    large = {axis.name: max(small[axis.name], axis.max) for axis in ranker.axes}
    try:
        of_small, of_large = (_nodes(ranker, sizes) for sizes in (small, large))
    except BuilderError:  # asked for the reason of an error, which another error shall not replace
        return None
    one, two = ([signature for _, signature in nodes] for nodes in (of_small, of_large))
    for change, start, end, other, _ in difflib.SequenceMatcher(a=one, b=two, autojunk=False).get_opcodes():
        if change != "equal":
            node, _ = of_small[start] if end > start else of_large[other]
            place = line_of(node) or f"{node.op_type} in the graph of ranker {ranker.name!r}"
            sizes = [", ".join(f"{name} {size}" for name, size in each.items()) for each in (small, large)]
            return f"{place} is exported otherwise for {sizes[0]} than for {sizes[1]}"
    return None


def _nodes(ranker: Ranker, sizes: Mapping[str, int]) -> list[tuple[onnx.NodeProto, Signature]]:
    """The nodes of the graph that is traced with an example of these sizes, each with what tells it from others."""
    model = traced_graph(ranker, example_inputs(ranker, sizes))
    constants = {
        tensor.name: numpy_helper.to_array(tensor).tobytes()
        for tensor in model.graph.initializer
        if numpy_helper.to_array(tensor).size <= SMALL
    }
    return [
        (
            node,
            (
                node.op_type,
                *(attribute.SerializeToString(deterministic=True) for attribute in node.attribute),
                *(constants.get(name) for name in node.input),
            ),
        )
        for node in model.graph.node
    ]
