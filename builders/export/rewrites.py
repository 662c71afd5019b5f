"""Functions of torch that the exporter refuses or writes wrongly, said in others that it writes rightly.

The replacements are equal for every input. They are called instead of the functions while a module is exported, so that
its code stays as it is.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import torch
from torch.nn import functional
from torch.nn.modules import transformer
from torch.overrides import TorchFunctionMode

from cleave.builders.export import packed_sequences

Function = Callable[..., Any]


@contextlib.contextmanager
def rewritten() -> Iterator[None]:
    """Within, functions and layers of torch are called in the form that the exporter writes rightly.

    Functions of torch's own Python code are replaced in every module that has imported them, as a module that says
    `from torch.nn.utils.rnn import pack_padded_sequence` never looks them up in torch again.
    """
    with contextlib.ExitStack() as stack:
        for module in list(sys.modules.values()):
            for name, value in list(getattr(module, "__dict__", {}).items()):
                replaced = _REPLACED_BY_ID.get(id(value))
                if replaced is not None:
                    stack.enter_context(mock.patch.object(module, name, replaced))
        for layer, forward in packed_sequences.FORWARDS.items():
            stack.enter_context(mock.patch.object(layer, "forward", forward))
        stack.enter_context(Rewrites())
        yield


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


def _embedding_bag(
    input: torch.Tensor,  # noqa: A002
    weight: torch.Tensor,
    offsets: torch.Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> torch.Tensor:
    """The exporter writes a loop over the bags. Bags of one size, `[bags, rows]`, are a sum over masked rows."""
    if input.dim() != 2 or max_norm is not None:
        return functional.embedding_bag(
            input, weight, offsets, max_norm, norm_type, scale_grad_by_freq, mode, sparse, per_sample_weights,
            include_last_offset, padding_idx,
        )  # fmt: skip
    rows = functional.embedding(input, weight)
    is_real = torch.ones_like(input, dtype=torch.bool) if padding_idx is None else input != padding_idx % len(weight)
    real = is_real.unsqueeze(-1)
    if mode == "max":
        most = rows.masked_fill(~real, -torch.inf).amax(1)
        return torch.where(real.any(1), most, 0.0)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    total = torch.where(real, rows, 0.0).sum(1)
    return total if mode == "sum" else total / real.sum(1).clamp(min=1).to(total.dtype)


def _is_causal(mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    """torch's layers look whether a mask is the causal one, which is a hint for kernels: the mask is applied anyway."""
    return is_causal is True


_REPLACED_BY_ID: dict[int, Function] = {
    id(function): replaced
    for function, replaced in {
        transformer._detect_is_causal_mask: _is_causal,
        **packed_sequences.REPLACED,
    }.items()
}

REWRITES: dict[Function, Function] = {
    torch.repeat_interleave: _repeat_interleave,
    torch.Tensor.repeat_interleave: _repeat_interleave,
    functional.scaled_dot_product_attention: _attention,
    functional.embedding_bag: _embedding_bag,
}
