"""What a summary of one model consists of: the names, types and shapes that a kept one must have to be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cleave.builders.names import SUMMARY_STATUS, VARIABLE
from cleave.serving.arrays import Arrays
from cleave.serving.model_config import Config, dtype_of


@dataclass(frozen=True)
class TensorFormat:
    """One tensor of a summary; `dims` is the shape of one user, -1 where the size varies."""

    dtype: np.dtype[Any]
    dims: tuple[int, ...]

    def fits(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        return dtype == self.dtype and len(shape) == len(self.dims) and all(map(_fits, self.dims, shape))


def _fits(dim: int, size: int) -> bool:
    return dim in (VARIABLE, size)


@dataclass(frozen=True)
class SummaryFormat:
    """The tensors of a summary by name."""

    tensors: Mapping[str, TensorFormat]

    @staticmethod
    def from_config(config: Config) -> SummaryFormat:
        """What a summary cache hands out, by its config."""
        return SummaryFormat(
            {
                entry["name"]: TensorFormat(dtype_of(entry), tuple(map(int, entry["dims"])))
                for entry in config["output"]
                if entry["name"] != SUMMARY_STATUS
            }
        )

    def fits(self, tensors: Arrays) -> bool:
        """Whether these are the summary of one user."""
        return tensors.keys() == self.tensors.keys() and all(
            self.tensors[name].fits(tensor.dtype, tensor.shape) for name, tensor in tensors.items()
        )
