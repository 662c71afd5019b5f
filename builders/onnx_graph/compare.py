"""Compares two arrays that should be equal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cleave.builders.onnx_graph.random_inputs import AnyArray


@dataclass(frozen=True)
class Difference:
    """The largest difference between two arrays."""

    size: float
    """Absolute for values up to 1, relative for larger ones; infinite where a value is NaN or the shapes differ."""
    words: str
    """The place of the largest difference, what was expected there, and what was got."""
    is_of_shapes: bool = False
    """Whether the shapes differ."""

    def beyond(self, tolerance: float) -> str | None:
        """The difference in words if it is larger than `tolerance`, else None."""
        if self.size <= tolerance:
            return None
        return self.words if self.is_of_shapes else f"{self.words} where {tolerance:g} is allowed"


def largest_difference(name: str, expected: AnyArray, got: AnyArray) -> Difference:
    """The largest difference between an output `name` as expected and as got, arrays of any shape."""
    if expected.shape != got.shape:
        return Difference(math.inf, f"output {name!r}: expected shape {expected.shape}, got {got.shape}", True)
    apart = np.abs(expected.astype(np.float64) - got.astype(np.float64)) / np.maximum(1, np.abs(expected))
    apart = np.where(np.isnan(apart), np.inf, apart)
    if not apart.size:
        return Difference(0.0, f"output {name!r} is empty")
    place = np.unravel_index(int(np.argmax(apart)), apart.shape)
    size = float(apart[place])
    return Difference(
        size,
        f"output {name!r} at {list(map(int, place))}: expected {float(expected[place]):.7g}, got "
        f"{float(got[place]):.7g}, a difference of {size:.2g}",
    )
