"""The proof of a cut: it passes what is right, and says of everything else what is wrong."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor as Values
from torch import nn

from cleave.builders.cut.cut import Cut, cut_ranker, split
from cleave.builders.cut.proof.agreement import ParityError
from cleave.builders.cut.proof.prove import prove
from cleave.builders.names import HISTORY_ENCODER
from cleave.builders.onnx_graph.session import RunError
from tests.builders.graphs import graph, ranker
from tests.builders.zoo.negative import self_attention_append
from tests.zoo_cuts import NUM_ITEMS, randomized, zoo_cut

W = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
"""The `w` of every graph."""


class Written(nn.Module):
    """A module that is called like the graph's ranker and does what the test says."""

    def __init__(self, forward: Callable[..., Values]) -> None:
        super().__init__()
        self.written = forward

    def forward(self, **inputs: Values) -> Values:
        return self.written(**inputs)


def cut(body: str, forward: Callable[..., Values], **weights: Any) -> Cut:
    """The cut of a graph that stands for the export of `forward`."""
    return split(graph(body, **weights), dataclasses.replace(ranker(), module=Written(forward)))


MASKED_SUM = """
    real = Greater(ids, zero_scalar)
    column = Unsqueeze(real, last)
    factor = Cast<to=1>(column)
    mapped = MatMul(events, w)
    masked = Mul(mapped, factor)
    vector = ReduceSum<keepdims=1>(masked, one)
    joined = Mul(features, vector)
    scores = ReduceSum<keepdims=0>(joined, last)
"""
ZERO = {"zero_scalar": np.array(0)}


def masked_sum(*, ids: Values, events: Values, features: Values, **rest: Values) -> Values:
    vector = (events @ torch.from_numpy(W) * (ids > 0).unsqueeze(-1)).sum(1, keepdim=True)
    return (features * vector).sum(-1)


def test_a_right_cut_passes_at_all_sizes() -> None:
    proof = prove(cut(MASKED_SUM, masked_sum, **ZERO))
    assert proof.largest == {"history": 12, "candidates": 12}
    assert proof.left_out == {}
    assert proof.difference < 1e-5


def refused(made: Cut) -> str:
    with pytest.raises(ParityError) as raised:
        prove(made)
    return str(raised.value)


def test_a_graph_that_is_not_the_module() -> None:
    message = refused(cut(MASKED_SUM, lambda **inputs: masked_sum(**inputs) + 1e-2, **ZERO))
    assert message.startswith("ranker 'small': ONNX against torch (history 0, candidates 1): output 'scores' at [0, 0]")
    assert re.search(
        r"expected \S+, got \S+, a difference of \S+ of the spread of the scores, \S+, where 1e-05 is allowed, "
        r"as torch is \S+ from float64; torch.onnx.export wrote another function than this module's",
        message,
    )


def test_a_branch_on_a_size_shows_at_another_size() -> None:
    """As an `if` in Python is exported: by the branch that the example took."""

    def branching(**inputs: Values) -> Values:
        scores = masked_sum(**inputs)
        return scores * 2 if inputs["ids"].shape[1] > 10 else scores

    message = refused(cut(MASKED_SUM, branching, **ZERO))
    assert message.startswith("ranker 'small': ONNX against torch (history 11, candidates ")


def test_a_mean_over_padding() -> None:
    def mean(*, events: Values, features: Values, **rest: Values) -> Values:
        return (features * events.mean(1, keepdim=True)).sum(-1)

    body = "vector = ReduceMean<keepdims=1>(events, one) joined = Mul(features, vector) "
    message = refused(cut(body + "scores = ReduceSum<keepdims=0>(joined, last)", mean))
    assert message.startswith("ranker 'small': axis 'history' padded from 1 to 2: output 'scores' at [")
    assert message.endswith(
        "padding of 'history' changes scores, so it cannot be padded to buckets; mask rows that hold the pad value "
        "(0 in 'ids', 0 in 'events'), and average over real rows only"
    )


def test_a_softmax_over_candidates() -> None:
    def shares(**inputs: Values) -> Values:
        return masked_sum(**inputs).softmax(1)

    body = MASKED_SUM.replace("scores =", "logits =") + "scores = Softmax<axis=1>(logits)"
    message = refused(cut(body, shares, **ZERO))
    assert message.startswith("ranker 'small': 2 candidates scored together against one by one: output 'scores' at [")
    assert "candidates see each other, or the history sees them; mask attention so that neither" in message


def test_attention_among_candidates_is_refused() -> None:
    """Self-attention append: candidates are keys for each other (papers.md, section 1)."""
    made = cut_ranker(randomized(self_attention_append(NUM_ITEMS)))
    with pytest.raises(
        ParityError, match=r"candidates scored together against one by one: .* candidates see each other"
    ):
        prove(made)


def test_users_who_see_each_other() -> None:
    def centred(**inputs: Values) -> Values:
        vector = inputs["profile"] - inputs["profile"].mean(0, keepdim=True)
        return (inputs["features"] * vector.unsqueeze(1)).sum(-1)

    body = """
        mean = ReduceMean<keepdims=1>(profile, zero)
        centred = Sub(profile, mean)
        vector = Unsqueeze(centred, one)
        joined = Mul(features, vector)
        scores = ReduceSum<keepdims=0>(joined, last)
    """
    message = refused(cut(body, centred))
    assert message.startswith("ranker 'small': a user (history 0, candidates ")
    assert ") in one batch with 1 other (history " in message
    assert message.endswith("users see each other; keep row i of every tensor that of user i")


def test_heads_outside_users_are_not_taken_for_users() -> None:
    """[heads * B, ..] has the shape of [B * heads, ..], which is what a summary is kept as."""

    def forward(*, profile: Values, features: Values, **rest: Values) -> Values:
        heads = (profile @ torch.from_numpy(W)).tanh()
        return (features * heads.unsqueeze(1)).sum(-1)

    body = """
        mapped = MatMul(profile, w)
        apart = Reshape(mapped, heads_shape)
        outside = Transpose<perm=[1,0,2]>(apart)
        flat = Reshape(outside, flat_shape)
        vectors = Unsqueeze(flat, last)
        kept = Tanh(vectors)
        items_apart = Reshape(features, items_shape)
        items_outside = Transpose<perm=[2,0,1,3]>(items_apart)
        m = Shape<start=1,end=2>(features)
        items_target = Concat<axis=0>(last, m, two)
        items_flat = Reshape(items_outside, items_target)
        read = MatMul(items_flat, kept)
        sums = Squeeze(read, last)
        sums_target = Concat<axis=0>(two, last, m)
        sums_apart = Reshape(sums, sums_target)
        scores = ReduceSum<keepdims=0>(sums_apart, zero)
    """
    shapes = {"heads_shape": [0, 2, 2], "flat_shape": [-1, 2], "items_shape": [0, 0, 2, 2]}
    made = cut(body, forward, **{name: np.array(shape) for name, shape in shapes.items()})
    assert "users see each other" in refused(made)


def test_scores_that_are_not_finite() -> None:
    def softmax(*, ids: Values, events: Values, features: Values, **rest: Values) -> Values:
        weights = (features @ events.transpose(1, 2)).masked_fill((ids == 0).unsqueeze(1), -torch.inf).softmax(-1)
        return (weights @ events).sum(-1)

    body = """
        real = Greater(ids, zero_scalar)
        mask = Unsqueeze(real, one)
        transposed = Transpose<perm=[0,2,1]>(events)
        weights = MatMul(features, transposed)
        masked = Where(mask, weights, lowest)
        shares = Softmax<axis=-1>(masked)
        read = MatMul(shares, events)
        scores = ReduceSum<keepdims=0>(read, last)
    """
    message = refused(cut(body, softmax, lowest=np.array(-np.inf, np.float32), **ZERO))
    assert message == (
        "ranker 'small': output 'scores' for a user without history: expected finite numbers, got nan; let attention "
        "over no keys be zero: mask weights with a large negative number instead of minus infinity, and values with "
        "zero; or, if such a user is never asked for, write Axis('history', ..., min_real=1), and clients refuse to ask"
    )


def test_parts_that_are_not_the_whole() -> None:
    made = cut(MASKED_SUM, masked_sum, **ZERO)
    encoder = onnx.ModelProto()
    encoder.CopyFrom(made.history_encoder)
    for tensor in encoder.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array(W * 1.001, "w"))
    message = refused(made.with_graphs({HISTORY_ENCODER: encoder}))
    assert message.startswith("ranker 'small': history encoder then candidate scorer (batch ")
    assert message.endswith("the cut is wrong for this graph; please report it with the model")


def test_a_graph_that_fails_at_the_longest_history() -> None:
    """Its positions end before the axis does; the module's do not."""

    def positioned(*, ids: Values, events: Values, features: Values, **rest: Values) -> Values:
        positions = torch.arange(12 * 4, dtype=torch.float32).reshape(12, 4)[: ids.shape[1]]
        return (features * ((events + positions) * (ids > 0).unsqueeze(-1)).sum(1, keepdim=True)).sum(-1)

    body = """
        n = Shape<start=1,end=2>(ids)
        some = Slice(positions, zero, n, zero)
        placed = Add(events, some)
        real = Greater(ids, zero_scalar)
        column = Unsqueeze(real, last)
        factor = Cast<to=1>(column)
        masked = Mul(placed, factor)
        vector = ReduceSum<keepdims=1>(masked, one)
        joined = Mul(features, vector)
        scores = ReduceSum<keepdims=0>(joined, last)
    """
    made = cut(body, positioned, positions=np.arange(11 * 4, dtype=np.float32).reshape(11, 4), **ZERO)
    with pytest.raises(RunError, match=r"the exported graph cannot be run on ids \[., 12\].* narrow the axis"):
        prove(made)


def test_outputs_of_another_shape() -> None:
    message = refused(cut(MASKED_SUM, lambda **inputs: masked_sum(**inputs)[:, :-1], **ZERO))
    assert "output 'scores': expected shape (1, 0), got (1, 1); torch.onnx.export wrote another function" in message


@pytest.mark.parametrize("name", ["append", "vista"])
def test_models_of_the_zoo_are_proven(name: str) -> None:
    made = zoo_cut(name)
    axes = {axis.name: axis for axis in made.ranker.axes}
    short = dataclasses.replace(axes["history"], opt=20, max=60)
    few = dataclasses.replace(axes["candidates"], opt=10, max=30)

    def shorter(tensors: Any) -> Any:
        swap = {axes["history"]: short, axes["candidates"]: few}
        return tuple(dataclasses.replace(t, axes=tuple(swap.get(axis, axis) for axis in t.axes)) for t in tensors)

    of = made.ranker
    small = dataclasses.replace(
        of,
        user=shorter(of.user),
        request=shorter(of.request),
        candidate=shorter(of.candidate),
        output=shorter(of.output),
    )
    assert prove(dataclasses.replace(made, ranker=small)).difference < 1e-5
