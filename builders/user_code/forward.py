"""Calls the user's module: with inputs by name, without gradients, and with his line where it fails."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping

import torch

from cleave.builders.spec import Ranker
from cleave.builders.user_code.failure import user_code_error


def call(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """What the module returns in evaluation mode; what it prints goes to stderr, as stdout is for results."""
    with torch.no_grad(), contextlib.redirect_stdout(sys.stderr):
        outputs = module.eval()(**inputs)
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)


def forward(ranker: Ranker, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """What the module of the ranker returns, in the order of the spec's outputs; each [batch, ...].

    Raises:
        UserCodeError: the module fails.
    """
    try:
        return call(ranker.module, inputs)
    except Exception as error:
        shapes = ", ".join(
            f"{name} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}" for name, value in inputs.items()
        )
        raise user_code_error(
            error,
            f"ranker {ranker.name!r}",
            f"make names, types and axes of the spec fit the module, which was called with {shapes}",
        ) from error
