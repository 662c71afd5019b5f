"""Functions of torch that the exporter refuses or writes wrongly, said in others that it writes rightly.

The replacements are equal for every input. They are called instead of the functions while a module is exported, so that
its code stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]


class Rewrites(TorchFunctionMode):
    """Within `with Rewrites():` the functions of `REWRITES` are called in their other form."""

    def __torch_function__(
        self,
        function: Function,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        rewrite = REWRITES.get(function)
        return (rewrite or function)(*args, **(kwargs or {}))


def _repeat_interleave(
    tensor: torch.Tensor, repeats: int | torch.Tensor, dim: int | None = None, *, output_size: int | None = None
) -> torch.Tensor:
    """onnxscript 0.7 writes a repetition by a size as an Expand to another shape, which fails at run time."""
    if isinstance(repeats, torch.Tensor):
        return torch.repeat_interleave(tensor, repeats, dim, output_size=output_size)
    if dim is None:
        tensor, dim = tensor.reshape(-1), 0
    place = dim % tensor.dim()
    shape = tensor.shape
    repeated = tensor.unsqueeze(place + 1).expand(*shape[: place + 1], repeats, *shape[place + 1 :])
    return repeated.reshape(*shape[:place], shape[place] * repeats, *shape[place + 1 :])


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *given: Any,
    **options: Any,
) -> torch.Tensor:
    """The exporter takes `scaled_dot_product_attention` with an axis of heads alone, `[batch, heads, rows, d]`."""
    if query.dim() != 3:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask, *given, **options)
    if attn_mask is not None and attn_mask.dim() == 3:
        attn_mask = attn_mask.unsqueeze(1)
    query, key, value = (tensor.unsqueeze(1) for tensor in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask, *given, **options).squeeze(1)


REWRITES: dict[Function, Function] = {
    torch.repeat_interleave: _repeat_interleave,
    torch.Tensor.repeat_interleave: _repeat_interleave,
    functional.scaled_dot_product_attention: _attention,
}
