"""Functions that are exported in another form are the same functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from cleave.builders.export.rewrites import Rewrites, rewritten
from cleave.builders.export.torch_export import onnx_from_ranker
from cleave.builders.onnx_graph.session import OnnxRunner
from tests.builders.models import foreign
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


@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from(["sum", "mean", "max"]), st.sampled_from([None, 0, 3, -1]))
def test_embedding_bags(num_bags: int, num_rows: int, mode: str, padding: int | None) -> None:
    """Bags with nothing but padding are among them."""
    ids, table = torch.randint(0, 5, (num_bags, num_rows)), torch.randn(5, 3)
    ids[0] = 3
    options: dict[str, Any] = {"mode": mode, "padding_idx": padding}
    if mode == "sum":
        options["per_sample_weights"] = torch.randn(ids.shape)
    with Rewrites():
        rewritten_bags = functional.embedding_bag(ids, table, **options)
    torch.testing.assert_close(rewritten_bags, functional.embedding_bag(ids, table, **options))


def test_ragged_bags_stay_what_they_are() -> None:
    ids, table, offsets = torch.tensor([1, 2, 3]), torch.randn(5, 3), torch.tensor([0, 1])
    with Rewrites():
        bags = functional.embedding_bag(ids, table, offsets, mode="sum")
    torch.testing.assert_close(bags, torch.stack([table[1], table[2] + table[3]]))


def test_functions_are_torchs_own_again_after_an_export() -> None:
    given = vars(foreign)["pack_padded_sequence"], torch.nn.GRU.forward
    with rewritten():
        assert vars(foreign)["pack_padded_sequence"] is not given[0]
    assert (vars(foreign)["pack_padded_sequence"], torch.nn.GRU.forward) == given


@pytest.mark.parametrize("layer", [torch.nn.GRU, torch.nn.LSTM])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences_end_at_the_length_of_each_user(
    layer: type[torch.nn.GRU | torch.nn.LSTM], bidirectional: bool
) -> None:
    torch.manual_seed(0)
    module = foreign.PackedSequence(layer, 2, bidirectional).eval()
    run = OnnxRunner(onnx_from_ranker(ranker_of("packed", module)))
    for _ in range(10):
        history, items = torch.randint(1, 60, (4, int(torch.randint(4, 30, ())))), torch.randint(1, 60, (4, 3))
        for user, length in enumerate(torch.randint(1, history.shape[1] + 1, (4,))):
            history[user, length:] = 0
        expected = module(history, items)
        scores = run({"history": history.numpy(), "items": items.numpy()})["scores"]
        torch.testing.assert_close(torch.from_numpy(scores), expected, rtol=1e-4, atol=1e-5)
