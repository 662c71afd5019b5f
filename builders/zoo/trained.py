"""Files of trained weights of zoo models: which model and sizes they are of, and how they were made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from cleave.builders.contract.location import WEIGHTS_SUFFIX
from cleave.builders.errors import BuilderError
from cleave.builders.files import staged

WEIGHTS = Path(__file__).parent / "weights"
"""Those that come with the zoo, as NAME.safetensors."""


class WeightsError(BuilderError):
    """A file of weights that cannot be read, or is not of the model that it is for."""


@dataclass(frozen=True)
class TrainedWeights:
    """What a file of weights says of itself in its metadata."""

    file: Path
    model: str
    """The zoo model."""
    sizes: dict[str, int | float]
    """The arguments of the zoo function; a size that the model has got since then has its default."""
    command: str
    """Made them."""

    @classmethod
    def of_zoo(cls, model: str, folder: Path = WEIGHTS) -> TrainedWeights | None:
        """Those that come with the zoo; None where it has none of the model."""
        file = folder / f"{model}{WEIGHTS_SUFFIX}"
        return cls.read(file) if file.exists() else None

    @classmethod
    def read(cls, file: Path) -> TrainedWeights:
        """What the file says; a file that does not name its model is called after it.

        Raises:
            WeightsError: `cleave train` did not write it.
        """
        try:
            with safe_open(file, framework="pt") as opened:
                metadata = opened.metadata() or {}
            return cls(file, metadata.get("model", file.stem), json.loads(metadata["sizes"]), metadata["command"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise WeightsError(
                f"weights {str(file)!r}: expected a file that `cleave train` wrote, got {type(error).__name__}: "
                f"{error}; give one"
            ) from error

    def load_into(self, module: torch.nn.Module) -> None:
        """Give the module these weights.

        Raises:
            WeightsError: they are of other shapes, as the model has changed since they were trained.
        """
        weights, expected = load_file(self.file), module.state_dict()
        for name in sorted(weights.keys() | expected.keys()):
            got, wanted = (_shape_of(tensors.get(name)) for tensors in (weights, expected))
            if got != wanted:
                raise WeightsError(
                    f"weights {str(self.file)!r}: {name}: expected {wanted} as {self.model} has it, got {got}; run "
                    f"`{self.command} --out {shlex.quote(str(self.file))}`"
                )
        module.load_state_dict(weights)

    def write(self, module: torch.nn.Module, metrics: Mapping[str, Any]) -> None:
        """Write the file whole or not at all, with the module's weights."""
        metadata = {
            "model": self.model,
            "sizes": json.dumps(self.sizes),
            "command": self.command,
            "metrics": json.dumps(metrics),
        }
        with staged(self.file) as written:
            save_file(module.state_dict(), written, metadata)
            written.chmod(0o644)  # safetensors makes files that only their owner reads


def _shape_of(tensor: torch.Tensor | None) -> str:
    return "nothing" if tensor is None else str(list(tensor.shape))
