"""Puts the batch axis first: a summary is kept row by row, wherever the graph has its users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.sizes import Size


@dataclass(frozen=True)
class BatchAxis:
    """Where a tensor has its batch axis, and its shape with the batch first.

    Modules that put the sequence first have the batch second, and `nn.MultiheadAttention` has it in an axis of size
    `batch * heads`, in which the heads of one user are neighbours.
    """

    dims: tuple[Size, ...]
    """The shape in the graph."""
    place: int
    """The place in `dims` of the axis that holds the batch."""
    factor: int
    """The size of that axis divided by the size of the batch."""

    @property
    def unfolded(self) -> tuple[Size, ...]:
        """The shape with `factor` as an axis of its own, right after the batch."""
        if self.factor == 1:
            return self.dims
        middle = (Size.of(BATCH), Size.of(self.factor))
        return (*self.dims[: self.place], *middle, *self.dims[self.place + 1 :])

    @property
    def to_first(self) -> list[int]:
        """The permutation of the axes of `unfolded` that puts the batch first."""
        return [self.place, *(place for place in range(len(self.unfolded)) if place != self.place)]

    @property
    def from_first(self) -> list[int]:
        """The inverse permutation of `to_first`."""
        return [self.to_first.index(place) for place in range(len(self.unfolded))]

    @property
    def batch_first(self) -> tuple[Size, ...]:
        """The shape with the batch first."""
        return tuple(self.unfolded[place] for place in self.to_first)


def batch_axis_of(dims: Sequence[Size]) -> BatchAxis | None:
    """The batch axis of a tensor of this shape; None where the tensor does not consist of one row per user."""
    places = [place for place, size in enumerate(dims) if BATCH in size.axes]
    if len(places) != 1:
        return None
    terms = dims[places[0]].terms
    if len(terms) != 1 or terms[0][0] != (BATCH,):
        return None
    return BatchAxis(tuple(dims), places[0], terms[0][1])
