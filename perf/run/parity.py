"""Arms that give different scores are different models, and their times are not compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleave.perf.errors import ParityError

TOLERANCE = 1e-4
"""Largest difference between the scores of two arms in float32: they add in another order, and nothing else differs."""


class Parity:
    """Compares the scores of arms for one request with those of the arm that has most of them.

    Arms come in any order and may score only the first candidates.
    """

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        self.tolerance = tolerance
        self.scores: dict[str, NDArray[Any]] = {}

    def check(self, arm: str, scores: NDArray[Any]) -> float:
        """The largest difference from the scores of any arm before.

        Raises:
            ParityError: it is too large, or a score is no number.
        """
        largest = 0.0
        for other, expected in {arm: scores, **self.scores}.items():
            count = min(len(scores), len(expected))
            difference = float(np.max(np.abs(scores[:count] - expected[:count])))
            if not difference <= self.tolerance:
                raise ParityError(
                    f"arm {arm!r}: expected the scores of {other!r} within {self.tolerance}, got a difference of "
                    f"{difference:.2g}; build the model again, and report it if that does not help"
                )
            largest = max(largest, difference)
        self.scores[arm] = scores
        return largest
