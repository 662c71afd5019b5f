"""What a client gives back: scores, and how they were obtained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cleave.clients.validation import Array


@dataclass(frozen=True, eq=False)
class Ranking:
    """The answer to `rank`: every output of the model, [num_candidates, ...], for the candidates in the order given."""

    outputs: Mapping[str, Array]
    summary_status: str | None = None
    """How the user's summary was obtained: `hit` was kept; `miss`, `stale` and others were encoded and say why; None
    where the model keeps no summaries."""
    build: str | None = None
    """Which build all outputs are of, as `cleave.builders.contract.build_version` calls it."""

    @property
    def scores(self) -> Array:
        """The first output of the model."""
        return next(iter(self.outputs.values()))

    def order(self) -> NDArray[np.intp]:
        """Places of the candidates by falling score, equal scores in the order given."""
        return np.argsort(-self.scores, kind="stable")
