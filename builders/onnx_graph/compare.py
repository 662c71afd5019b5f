"""How far two ways to compute the same tensor are apart, and how far they may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cleave.builders.onnx_graph.random_inputs import AnyArray


@dataclass(frozen=True)
class Difference:
    """The largest difference of a tensor."""

    size: float
    """Relative to values above 1; infinite where one is no number, or the shapes differ."""
    words: str
    """Where it is, what was expected there, and what was got."""
    is_of_shapes: bool = False

    def beyond(self, tolerance: float) -> str | None:
        """What to say if it is too large, else None."""
        if self.size <= tolerance:
            return None
        return self.words if self.is_of_shapes else f"{self.words} where {tolerance:g} is allowed"


def largest_difference(name: str, expected: AnyArray, got: AnyArray) -> Difference:
    """The largest difference of two arrays that should be the same output."""
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
