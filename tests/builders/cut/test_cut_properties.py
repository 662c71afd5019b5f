"""The cut of any graph: the parts compute what the whole computes, and the scorer does no work of the user's."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings

from cleave.builders import Ranker
from cleave.builders.cut.cut import Cut, split
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.onnx_graph.operators import operator
from cleave.builders.onnx_graph.random_inputs import Arrays, draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner
from tests.builders.random_graphs import CANDIDATES, CONTEXT, HISTORY, rankers

TOLERANCE = 1e-4
SIZES = [(1, 1, 1, 1), (3, 7, 2, 5), (2, 12, 9, 3)]
"""Batch, history, context, candidates."""

bounded = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@bounded
@given(rankers())
def test_any_graph_is_cut(case: tuple[onnx.ModelProto, Ranker]) -> None:
    check_cut(*case)


@bounded
@given(rankers(joint=True))
def test_any_graph_with_one_sequence_of_history_and_candidates_is_cut(case: tuple[onnx.ModelProto, Ranker]) -> None:
    check_cut(*case)


def check_cut(model: onnx.ModelProto, ranker: Ranker) -> None:
    cut = split(model, ranker)
    parts = EncoderThenScorer(cut)
    assert parts.encode.inputs == [tensor.name for tensor in ranker.user]
    for part in (cut.history_encoder, cut.candidate_scorer):
        onnx.checker.check_model(part, full_check=True)
    check_equal(cut, parts)
    check_summary(cut, parts)
    check_no_product_of_the_user(cut, parts)


def drawn(ranker: Ranker, batch: int, history: int, context: int, candidates: int, seed: int = 0) -> Arrays:
    sizes = {HISTORY: history, CONTEXT: context, CANDIDATES: candidates}
    return draw_inputs(ranker, sizes, batch, np.random.default_rng(seed))


def check_equal(cut: Cut, parts: EncoderThenScorer) -> None:
    whole = OnnxRunner(cut.whole)
    for sizes in SIZES:
        inputs = drawn(cut.ranker, *sizes)
        expected = whole(inputs)["scores"]
        np.testing.assert_allclose(parts(inputs)["scores"], expected, rtol=TOLERANCE, atol=TOLERANCE)


def check_summary(cut: Cut, parts: EncoderThenScorer) -> None:
    for batch, *sizes in SIZES:
        kept = parts.encode(drawn(cut.ranker, batch, *sizes))
        for tensor in cut.summary:
            assert kept[tensor.name].shape[0] == batch
            axes = dict(zip((HISTORY, CONTEXT, CANDIDATES), sizes, strict=True))
            assert kept[tensor.name].nbytes == batch * tensor.bytes_at(axes)


def check_no_product_of_the_user(cut: Cut, parts: EncoderThenScorer) -> None:
    """A product that reads data of the user alone, and whose size is the user's, belongs to the encoder."""
    of_user = {tensor.name for tensor in cut.summary}
    of_others = {tensor.name for tensor in cut.ranker.request + cut.ranker.candidate}
    products = []
    for node in cut.candidate_scorer.graph.node:
        if node.op_type == "Shape":
            continue
        if of_others.intersection(node.input):
            of_others.update(node.output)
        elif of_user.intersection(node.input):
            of_user.update(node.output)
            products += list(node.output) if operator(node.op_type).is_product else []
    run = OnnxRunner(watching(cut.candidate_scorer, products), products or None, optimized=False)
    user, other = drawn(cut.ranker, 2, 5, 4, 3), drawn(cut.ranker, 2, 5, 6, 7)
    kept = {tensor.name: user[tensor.name] for tensor in cut.ranker.user} | parts.encode(user)
    before, after = run({**user, **kept}), run({**other, **kept})
    assert [name for name in products if before[name].shape == after[name].shape] == []


def watching(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return watched
