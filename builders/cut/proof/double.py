"""Runs a torch module in float64, whatever types its code names."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from cleave.builders.contract.dtypes import DTYPES
from cleave.builders.cut.proof.truth import outputs_of_module
from cleave.builders.onnx_graph.random_inputs import Arrays
from cleave.builders.spec import Ranker

NARROWER = tuple(getattr(torch, row.name) for row in DTYPES.values() if row.is_float and row.bytes < 8)
"""The types of torch that modules compute in."""


class DoubleModule:
    """The module of a ranker in float64: weights, inputs, constants, and casts to narrower types in its code.

    So it is the same function of the same inputs, rounded two hundred million times less than in float32.
    """

    def __init__(self, ranker: Ranker) -> None:
        self.ranker = ranker
        self.refusal: str | None = None
        """Why the module does not run in float64, once that was tried; None while it does."""
        self._module: torch.nn.Module | None = None

    def __call__(self, inputs: Arrays) -> Arrays | None:
        """The outputs by name in float64; None for a module that does not run so."""
        if self.refusal is None:
            try:
                self._module = self._module or copy.deepcopy(self.ranker.module).double()
                with _doubling():
                    return outputs_of_module(self._module, self.ranker, inputs)
            except Exception as error:  # whatever a user's code raises on a type that it does not expect
                self.refusal = f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no reason given')}"
        return None


@contextlib.contextmanager
def _doubling() -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Doubling():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.set_default_dtype(default)


class _Doubling(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operator gets float64 where it was given less: a tensor, or a type to compute in."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map(_doubled, (args, kwargs or {}))
        return func(*args, **kwargs)


def _doubled(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype in NARROWER:
        return value.double()
    return torch.float64 if value in NARROWER else value
