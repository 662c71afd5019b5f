"""Whether a module gives the same scores each time that it is called, and if not, which line of the user's is why."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cleave.builders.spec import Ranker
from cleave.builders.user_code.failure import UserCodeError, own_frame
from cleave.builders.user_code.forward import forward


class _RandomOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the first operator that draws random numbers, and the user's line that calls it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: str | None = None

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self.found is None and torch.Tag.nondeterministic_seeded in operator.tags:
            line = own_frame(traceback.extract_stack())
            self.found = f"{f'{line}: ' if line else ''}{operator.overloadpacket.__name__} draws random numbers"
        return operator(*args, **(kwargs or {}))


def check_repeatable(ranker: Ranker, inputs: Mapping[str, torch.Tensor]) -> None:
    """Call the module twice with the same inputs, in evaluation mode.

    Raises:
        UserCodeError: the scores differ; names the operator that draws random numbers, or says that there is none.
    """
    first, second = forward(ranker, inputs), forward(ranker, inputs)
    for tensor, one, other in zip(ranker.output, first, second, strict=False):
        if isinstance(one, torch.Tensor) and not torch.allclose(one, other, rtol=0, atol=0, equal_nan=True):
            with _RandomOperators() as random:  # not before: some operators do not run under it
                forward(ranker, inputs)
            cause = random.found or f"ranker {ranker.name!r}: the module keeps something from call to call"
            raise UserCodeError(
                f"{cause}, so output {tensor.name!r} differs between two calls with the same inputs, expected equal "
                "scores in evaluation mode; pass training=self.training to functional dropout, and keep neither "
                "randomness nor state in forward"
            )
