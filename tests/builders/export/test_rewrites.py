"""Functions that are exported in another form are the same functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from cleave.builders.export.rewrites import Rewrites
from cleave.builders.export.torch_export import onnx_from_ranker
from tests.builders.models.foreign import LastState, ranker_of


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4).flatmap(
        lambda shape: st.tuples(st.just(shape), st.none() | st.integers(-len(shape), len(shape) - 1))
    ),
    st.integers(1, 5),
)
def test_repetitions(shape_and_dim: tuple[list[int], int | None], repeats: int) -> None:
    shape, dim = shape_and_dim
    tensor = torch.randn(shape)
    with Rewrites():
        by_method, by_function = tensor.repeat_interleave(repeats, dim), torch.repeat_interleave(tensor, repeats, dim)
    torch.testing.assert_close(by_method, tensor.repeat_interleave(repeats, dim), rtol=0, atol=0)
    torch.testing.assert_close(by_function, by_method, rtol=0, atol=0)


def test_repetitions_by_a_tensor_stay_what_they_are() -> None:
    with Rewrites():
        repeated = torch.arange(3).repeat_interleave(torch.tensor([2, 0, 1]))
    assert repeated.tolist() == [0, 0, 2]


@pytest.mark.parametrize("mask", [None, (5, 7), (2, 5, 7), (2, 1, 7), (1, 5, 7)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_without_heads(mask: tuple[int, ...] | None, is_causal: bool) -> None:
    if is_causal and mask:
        pytest.skip("torch takes one of them")
    query, key, value = torch.randn(2, 5, 4), torch.randn(2, 7, 4), torch.randn(2, 7, 4)
    given_mask = None if mask is None else torch.rand(mask) < 0.7
    options: dict[str, Any] = {"attn_mask": given_mask, "is_causal": is_causal, "scale": 0.3}
    with Rewrites():
        rewritten = functional.scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(
        rewritten, functional.scaled_dot_product_attention(query, key, value, **options), equal_nan=True
    )


@pytest.mark.parametrize("layer", [torch.nn.GRU, torch.nn.LSTM])
def test_recurrent_layers_are_exported_as_often_as_asked(layer: type[torch.nn.GRU | torch.nn.LSTM]) -> None:
    torch.manual_seed(0)
    module = LastState(layer)
    first, second = (onnx_from_ranker(ranker_of("recurrent", module)).SerializeToString() for _ in range(2))
    assert first == second
