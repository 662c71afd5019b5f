"""Checks that arms give equal scores: if they do not, they are different models, and comparing times means nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleave.perf.arms import TOLERANCE
from cleave.perf.errors import ScoresDifferError


class Parity:
    """Compares the scores of each arm for one request with those of every arm before it.

    An arm may score only the first candidates of the request; so many are compared.
    """

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        self.tolerance = tolerance
        self.scores: dict[str, NDArray[Any]] = {}

    def check(self, arm: str, scores: NDArray[Any]) -> float:
        """The largest difference between the scores of this arm, [num_candidates], and those of the arms before it.

        Raises:
            ScoresDifferError: it is larger than the tolerance, or a score is NaN.
        """
        largest = 0.0
        for other, expected in {arm: scores, **self.scores}.items():
            count = min(len(scores), len(expected))
            difference = float(np.max(np.abs(scores[:count] - expected[:count])))
            if not difference <= self.tolerance:
                raise ScoresDifferError(
                    f"arm {arm!r}: expected the scores of {other!r} within {self.tolerance}, got a difference of "
                    f"{difference:.2g}; build the model again, and report it if that does not help"
                )
            largest = max(largest, difference)
        self.scores[arm] = scores
        return largest
