"""FLOPs of append and concat against formulas derived by hand, at the sizes that the claims are made at."""

from __future__ import annotations

import functools

import pytest

from builders.cost import MATRIX_PRODUCTS
from builders.report import report_dict
from builders.sources import random_ranker
from builders.split import Cut, cut_ranker
from tests.zoo_cuts import WIDTH, zoo_cut

LAYERS, D, HEADS, N, M = 3, 128, 4, 1024, 512
SIZES = {"history": N, "candidates": M}
GENRES = 20


@functools.cache
def large_append() -> Cut:
    cut, _ = cut_ranker(random_ranker("append", {"layers": LAYERS, "width": D, "heads": HEADS}))
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
    assert flops["candidate_scorer"].at(SIZES) + flops["item_tower"].at(SIZES) == pytest.approx(scorer, rel=0.01)


def test_ratios_of_append() -> None:
    cut = large_append()
    per_candidate = M * (LAYERS * block(N + 1, N, D, HEADS) + head(1, D))
    assert cut.arms(SIZES).per_candidate == pytest.approx(per_candidate, rel=0.01)
    ratio = report_dict(cut, SIZES)["ratio"]
    assert ratio["cached"] > 900
    assert ratio["cached"] > ratio["uncached"] > ratio["single_pass"] > 300


def test_the_summary_of_append_in_bytes() -> None:
    """K and V per layer and one mask, nothing else."""
    assert large_append().summary_bytes(SIZES) == LAYERS * 2 * N * D * 4 + N
    assert len(large_append().summary) == 2 * LAYERS + 1


def test_the_scorer_of_append_projects_no_key_and_no_value() -> None:
    products = [node.name for node in large_append().candidate_scorer.graph.node if node.op_type in MATRIX_PRODUCTS]
    assert products
    assert not [name for name in products if ".key/" in name or ".value/" in name]


def test_flops_of_concat() -> None:
    """Every candidate has a sequence of its own: M times N rows that read each other, and the pair's projection."""
    n, m, d, heads, layers = 100, 16, WIDTH, 2, 2
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
    assert cut.arms(sizes).ratio()["cached"] < 1.01
