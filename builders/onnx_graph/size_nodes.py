"""Writes sizes into a graph: nodes that compute a `Size` from the shapes of the graph's own tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from cleave.builders.onnx_graph.sizes import Size

INT64 = np.dtype(np.int64)

COPY = 0
"""In the shape that a Reshape is given: the dimension of the input at this place."""
INFER = -1
"""In the shape that a Reshape is given: whatever is left."""


class MissingAxisError(LookupError):
    """No tensor of the graph has the axis whose size is needed."""


@dataclass(frozen=True)
class AxisSource:
    """Where the size of an axis can be read: dimension `place` of a tensor is `factor * axis + constant`."""

    tensor: gs.Tensor
    place: int
    factor: int = 1
    constant: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether the dimension is the size of the axis itself."""
        return (self.factor, self.constant) == (1, 0)


class SizeNodes:
    """Makes nodes for sizes, once for each size of a graph.

    Args:
        graph: the graph to which nodes are appended.
        sources: for each axis by name, where its size can be read.
        prefix: begins the names of nodes and tensors, with a slash behind it, which no tensor of a ranker has.
    """

    def __init__(self, graph: gs.Graph, sources: Mapping[str, AxisSource], prefix: str) -> None:
        self.graph = graph
        self.sources = sources
        self.prefix = prefix
        self.made: dict[object, gs.Tensor] = {}

    def vector(self, sizes: Sequence[Size | int], dtype: np.dtype[Any] = INT64) -> gs.Tensor:
        """The sizes as an integer tensor [len(sizes)]."""
        entries = [size if isinstance(size, Size) else Size.of(size) for size in sizes]
        constants = [entry.constant for entry in entries]
        if None not in constants:
            return self._constant(np.array(constants, dtype))
        parts = [self._element(entry) for entry in entries]
        whole = parts[0] if len(parts) == 1 else self._node("Concat", parts, tuple(entries), {"axis": 0})
        return self._cast(whole, dtype, tuple(entries))

    def scalar(self, size: Size, dtype: np.dtype[Any] = INT64) -> gs.Tensor:
        """A size as an integer tensor of rank 0."""
        if size.constant is not None:
            return self._constant(np.array(size.constant, dtype))
        axes = self._constant(np.array([0], np.int64))
        return self._cast(self._node("Squeeze", [self._element(size), axes], ("scalar", size)), dtype, ("scalar", size))

    def _element(self, size: Size) -> gs.Tensor:
        """A size as an int64 tensor [1]."""
        if size.constant is not None:
            return self._constant(np.array([size.constant], np.int64))
        if size.axis is not None:
            return self._axis(size.axis)
        terms = []
        for monomial, factor in size.terms:
            term = self._axis(monomial[0]) if monomial else self._constant(np.array([factor], np.int64))
            for axis in monomial[1:]:
                term = self._node("Mul", [term, self._axis(axis)], ("times", term.name, axis))
            if monomial and factor != 1:
                constant = self._constant(np.array([factor], np.int64))
                term = self._node("Mul", [term, constant], ("times", term.name, factor))
            terms.append(term)
        total = terms[0]
        for term in terms[1:]:
            total = self._node("Add", [total, term], ("plus", total.name, term.name))
        return total

    def _axis(self, axis: str) -> gs.Tensor:
        if axis not in self.sources:
            raise MissingAxisError(axis)
        source = self.sources[axis]
        size = self._node("Shape", [source.tensor], ("axis", axis), {"start": source.place, "end": source.place + 1})
        if source.constant:
            less = self._constant(np.array([source.constant], np.int64))
            size = self._node("Sub", [size, less], ("axis without a constant", axis))
        if source.factor != 1:
            factor = self._constant(np.array([source.factor], np.int64))
            size = self._node("Div", [size, factor], ("axis without a factor", axis))
        return size

    def _cast(self, tensor: gs.Tensor, dtype: np.dtype[Any], key: object) -> gs.Tensor:
        if dtype == INT64:
            return tensor
        return self._node("Cast", [tensor], ("cast", key, dtype.str), {"to": dtype.type}, dtype)

    def _constant(self, values: NDArray[Any]) -> gs.Constant:
        key = ("constant", values.dtype.str, values.shape, values.tobytes())
        if key not in self.made:
            self.made[key] = gs.Constant(f"{self.prefix}/constant_{len(self.made)}", values)
        return self.made[key]

    def _node(
        self,
        op: str,
        inputs: list[gs.Tensor],
        key: object,
        attrs: dict[str, object] | None = None,
        dtype: np.dtype[Any] = INT64,
    ) -> gs.Variable:
        if key not in self.made:
            name = f"{self.prefix}/size_{len(self.made)}"
            output = gs.Variable(name, dtype=dtype)
            self.graph.nodes.append(gs.Node(op, name, attrs or {}, inputs, [output]))
            self.made[key] = output
        return self.made[key]


def reshape_target(given: Sequence[Size], wanted: Sequence[Size], infer: int | None = None) -> list[Size | int]:
    """What a Reshape from shape `given` to shape `wanted` is given, such that few sizes are computed at run time.

    Args:
        infer: the place of the dimension that becomes `INFER`; by default that of the only dimension that is neither
            constant nor copied, if there is just one.
    """
    target: list[Size | int] = []
    for place, size in enumerate(wanted):
        if place == infer:
            target.append(INFER)
        elif size.constant is not None:
            target.append(size)
        elif place < len(given) and given[place] == size:
            target.append(COPY)
        else:
            target.append(size)
    open_places = [place for place, entry in enumerate(target) if isinstance(entry, Size) and entry.constant is None]
    if infer is None and len(open_places) == 1:
        target[open_places[0]] = INFER
    return target
