"""FLOPs of every zoo model against formulas derived by hand: whole models and, where the claims are made, parts."""

from __future__ import annotations

import functools

import pytest

from cleave.builders.cut.cut import Cut, cut_ranker
from cleave.builders.load import random_ranker
from cleave.builders.onnx_graph.operators import operator
from cleave.builders.predict.arms import flops_of_arms, ratios
from cleave.builders.zoo import ZOO
from cleave.builders.zoo.trained import WEIGHTS, TrainedWeights
from tests.zoo_cuts import zoo_cut

LAYERS, D, HEADS, N, M = 3, 128, 4, 1024, 512
SIZES = {"history": N, "candidates": M}
GENRES = 20


@functools.cache
def large_append() -> Cut:
    cut = cut_ranker(random_ranker("append", {"layers": LAYERS, "width": D, "heads": HEADS}))
    return cut


def block(rows: int, keys: int, d: int, heads: int, projected_keys: int | None = None) -> int:
    """A pre-norm Transformer block for `rows` that read `keys`, of which `projected_keys` are projected here.

    Products are 2 a multiply-add. Per row and column: two norms of 7, biases and residuals and GELU (4 * d columns) and
    the scale of queries; per weight: softmax 4 and adding the mask 1.
    """
    projections = 2 * (2 * rows + 2 * (keys if projected_keys is None else projected_keys)) * d * d
    attention = 2 * 2 * rows * keys * d + 5 * heads * rows * keys
    feed_forward = 2 * 2 * rows * d * 4 * d
    return projections + attention + feed_forward + rows * d * (7 + 7 + 1 + 1 + 1 + 1 + 4 + 4 + 1 + 1)


def head(rows: int, d: int) -> int:
    """The first layer is two products and their sum, then GELU, then one number."""
    return rows * 2 * d * (2 * (d + GENRES) + 4 + 2)


def test_flops_of_append() -> None:
    expected = LAYERS * block(N + M, N, D, HEADS) + head(M, D)
    assert large_append().flops["whole"].at(SIZES) == pytest.approx(expected, rel=0.01)


def test_flops_of_the_parts_of_append() -> None:
    """Rows of the last layer's history are read by nobody; keys and values are projected once."""
    flops = large_append().flops
    encoder = (LAYERS - 1) * block(N, N, D, HEADS) + 2 * 2 * N * D * D
    assert flops["history_encoder"].at(SIZES) == pytest.approx(encoder, rel=0.01)
    scorer = LAYERS * block(M, N, D, HEADS, projected_keys=0) + head(M, D)
    assert flops["candidate_scorer"].at(SIZES) == pytest.approx(scorer, rel=0.01)


def test_ratios_of_append() -> None:
    cut = large_append()
    per_candidate = M * (LAYERS * block(N + 1, N, D, HEADS) + head(1, D))
    assert flops_of_arms(cut, SIZES)["per_candidate"] == pytest.approx(per_candidate, rel=0.01)
    ratio = ratios(flops_of_arms(cut, SIZES))
    assert ratio["cached"] > 900
    assert ratio["cached"] > ratio["uncached"] > ratio["single_pass"] > 300


def test_the_summary_of_append_in_bytes() -> None:
    """K and V per layer and one mask, nothing else."""
    assert large_append().summary_bytes(SIZES) == LAYERS * 2 * N * D * 4 + N
    assert len(large_append().summary) == 2 * LAYERS + 1


def test_the_scorer_of_append_projects_no_key_and_no_value() -> None:
    products = [node.name for node in large_append().candidate_scorer.graph.node if operator(node.op_type).is_product]
    assert products
    assert not [name for name in products if ".key/" in name or ".value/" in name]


def width(name: str) -> int:
    """Of the committed model."""
    return int(TrainedWeights.read(WEIGHTS / f"{name}.safetensors").sizes["width"])


def test_flops_of_concat() -> None:
    """Every candidate has a sequence of its own: M times N rows that read each other, and the pair's projection."""
    n, m, d, heads, layers = 100, 16, width("concat"), 2, 2
    whole = zoo_cut("concat").flops["whole"].at({"history": n, "candidates": m})
    pairs = m * n * (2 * 2 * d * d + d)
    pooled = m * n * 2 * d
    expected = pairs + layers * m * block(n, n, d, heads) + pooled + head(m, d)
    embedded = n * d * 6 + m * n * d
    assert whole == pytest.approx(expected + embedded, rel=0.01)


def test_next_to_nothing_of_concat_moves() -> None:
    cut = zoo_cut("concat")
    sizes = {"history": 100, "candidates": 16}
    assert cut.flops["history_encoder"].at(sizes) < 0.001 * cut.flops["whole"].at(sizes)
    assert ratios(flops_of_arms(cut, sizes))["cached"] < 1.01


N_LONG, M_MANY = 1024, 512
LINKS = SEEDS = 32
"""The zoo's own number of links and seeds; so are two heads."""
IDS = 4
"""Of an id: less, greater or equal, or, where."""
SILU = 2


def whole(name: str) -> int:
    return zoo_cut(name).flops["whole"].at({"history": N_LONG, "candidates": M_MANY})


def hstu_keys(rows: int, d: int, masked: bool) -> int:
    """A norm, K and V of two products and SiLU each, V over N and, of events, times the mask."""
    return rows * (7 * d + 2 * (2 * d * d + SILU * d) + d + d * masked)


def hstu_read(rows: int, keys: int, d: int, heads: int) -> int:
    """Query, gate and output, weights with SiLU, norm of what was read, gating, bias and residual."""
    products = 3 * 2 * rows * d * d + 2 * 2 * rows * keys * d
    return products + SILU * heads * rows * keys + rows * d * (SILU + 7 + SILU + 1 + 1 + 1)


def test_flops_of_hstu() -> None:
    n, m, d, heads, layers = N_LONG, M_MANY, width("hstu"), 2, 2
    events = layers * hstu_keys(n, d, masked=True)
    events += (layers - 1) * (hstu_read(n, n, d, heads) + heads * n * n)  # the causal mask of its weights
    itself = 3 * m * d + SILU * m * heads + m * d  # Q times K, their sum, its SiLU times V, added
    candidates = layers * (hstu_keys(m, d, masked=False) + hstu_read(m, n, d, heads) + itself)
    embedded = n * 2 * (d + IDS) + m * (d + IDS)
    assert whole("hstu") == pytest.approx(events + candidates + embedded + head(m, d), rel=0.01)


def recency_embedding(n: int, m: int, d: int) -> int:
    """Two sums an event and the product with the mask, of a few operations on ids and ages besides."""
    return n * (3 * d + 2 * IDS + 10) + m * (d + IDS)


def test_flops_of_vista() -> None:
    n, m, d, heads, layers, k = N_LONG, M_MANY, width("vista"), 2, 2, SEEDS
    state = 7 * d + 2 * d * d + SILU * d + 2 * d * d  # of a row: norm, phi(K), its product with the row
    of_state = 2 * 2 * d**3 + 2 * 2 * d**3 + 8 * d * d  # V's weights for events and seeds, and the output's
    row = 4 * 2 * d * d + 2 * d * d + SILU * d + 7 * d + 3 * d  # query, its read, gate, up, down; a norm, gating, sums
    stage_1 = layers * ((n + k) * state + of_state + k * row) + (layers - 1) * n * row + 7 * k * d
    unmasked = heads * m * k  # sums that are not: every candidate reads every summary token
    stage_2 = layers * (block(m, k, d, heads) - unmasked + 9 * k * d)
    expected = recency_embedding(n, m, d) + stage_1 + stage_2 + head(m, d)
    assert whole("vista") == pytest.approx(expected, rel=0.01)


def lime_around(n: int, m: int, d: int, heads: int, r: int) -> int:
    """All but the reading of the history: personal links, the item's weights of links, and the head."""
    personal = n * d + 3 * r * d + 2 * r * d * d  # the mean of the events, then the second layer of the MLP
    items = 7 * m * d + 2 * m * r * d + 4 * heads * m * r
    links = 2 * heads * r * d * d + heads * r * d  # the head's product, of the links of each head
    pair = 2 * m * heads * r * d
    last = m * (2 * (d + GENRES) * d + 3 * d + 2 * d)
    return recency_embedding(n, m, d) + personal + items + links + pair + last


def test_flops_of_lime_mha() -> None:
    n, m, d, heads, r = N_LONG, M_MANY, width("lime_mha"), 2, LINKS
    keys = n * (7 * d + d + d + d)  # a norm of the events, the biases of K and V, the mask of V
    expected = lime_around(n, m, d, heads, r) + block(r, n, d, heads) + keys
    assert whole("lime_mha") == pytest.approx(expected, rel=0.01)


def test_flops_of_lime_xor() -> None:
    n, m, d, heads, r, layers = N_LONG, M_MANY, width("lime_xor"), 2, LINKS, 3
    links = layers * (hstu_keys(n, d, masked=True) + hstu_read(r, n, d, heads) + 7 * r * d)
    events = (layers - 1) * (hstu_keys(r, d, masked=False) - 7 * r * d + hstu_read(n, r, d, heads))
    assert whole("lime_xor") == pytest.approx(lime_around(n, m, d, heads, r) + links + events, rel=0.01)


def test_every_zoo_model_is_pinned() -> None:
    """A model that is added needs a formula here."""
    assert {f"test_flops_of_{name}" for name in ZOO} <= set(globals())
