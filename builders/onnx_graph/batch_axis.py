"""Puts the batch axis first: a summary is kept row by row, wherever the graph has its users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.sizes import Size


@dataclass(frozen=True)
class Layout:
    """Where a tensor of a graph has the batch, and what it looks like with the batch first.

    Modules that put the sequence first have it second, and `nn.MultiheadAttention` has it in `batch * heads`, users
    outside and heads inside.
    """

    dims: tuple[Size, ...]
    """The shape in the graph."""
    place: int
    """Which of `dims` holds the batch."""
    factor: int
    """How many times the size of the batch it is."""

    @property
    def apart(self) -> tuple[Size, ...]:
        """The shape with the factor as an axis of its own, right after the batch."""
        if self.factor == 1:
            return self.dims
        middle = (Size.of(BATCH), Size.of(self.factor))
        return (*self.dims[: self.place], *middle, *self.dims[self.place + 1 :])

    @property
    def to_first(self) -> list[int]:
        """The permutation of `apart` that puts the batch first."""
        return [self.place, *(place for place in range(len(self.apart)) if place != self.place)]

    @property
    def from_first(self) -> list[int]:
        """The permutation back."""
        return [self.to_first.index(place) for place in range(len(self.apart))]

    @property
    def kept(self) -> tuple[Size, ...]:
        """The shape with the batch first."""
        return tuple(self.apart[place] for place in self.to_first)


def layout_of(dims: Sequence[Size]) -> Layout | None:
    """The layout of a tensor of this shape; None where it is not made of one row per user."""
    places = [place for place, size in enumerate(dims) if BATCH in size.axes]
    if len(places) != 1:
        return None
    terms = dims[places[0]].terms
    if len(terms) != 1 or terms[0][0] != (BATCH,):
        return None
    return Layout(tuple(dims), places[0], terms[0][1])
