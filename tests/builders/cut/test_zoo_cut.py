"""The properties of papers.md, section 5, on every zoo model after the cut, in ONNX Runtime."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from cleave.builders.cut.cut import Cut
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays, draw_inputs, repeated_for_candidates
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.zoo import ZOO
from tests.zoo_cuts import zoo_cut

TOLERANCE = 1e-5

every_model = pytest.mark.parametrize("name", ZOO)
sizes = pytest.mark.parametrize(("batch", "events", "candidates"), [(1, 1, 1), (2, 7, 5), (3, 40, 13)])


@functools.cache
def parts(name: str) -> EncoderThenScorer:
    cut = zoo_cut(name)
    return EncoderThenScorer(cut)


def draw(name: str, batch: int, events: int, candidates: int, padded: bool = False) -> Arrays:
    rng = np.random.default_rng([batch, events, candidates])
    return draw_inputs(zoo_cut(name).ranker, {"history": events, "candidates": candidates}, batch, rng, padded=padded)


def score(name: str, inputs: Arrays) -> AnyArray:
    return parts(name)(inputs)["scores"]


def assert_close(actual: AnyArray, expected: AnyArray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


def pad_rows(inputs: Arrays, prefix: str, count: int) -> Arrays:
    return {
        key: np.pad(array, [(0, 0), (0, count), *[(0, 0)] * (array.ndim - 2)]) if key.startswith(prefix) else array
        for key, array in inputs.items()
    }


@every_model
@sizes
def test_encoder_then_scorer_equals_the_whole(name: str, batch: int, events: int, candidates: int) -> None:
    inputs = draw(name, batch, events, candidates, padded=True)
    scores = score(name, inputs)
    assert scores.shape == (batch, candidates)
    assert_close(scores, OnnxRunner(zoo_cut(name).whole)(inputs)["scores"])


@every_model
@sizes
def test_scores_together_equal_scores_one_by_one(name: str, batch: int, events: int, candidates: int) -> None:
    ranker = zoo_cut(name).ranker
    inputs = draw(name, batch, events, candidates, padded=True)
    together = score(name, inputs)
    for user in range(batch):
        alone = repeated_for_candidates(ranker, {key: array[user : user + 1] for key, array in inputs.items()})
        assert_close(score(name, alone)[:, 0], together[user])


@every_model
@sizes
def test_permuting_candidates_permutes_scores(name: str, batch: int, events: int, candidates: int) -> None:
    inputs = draw(name, batch, events, candidates)
    order = np.random.default_rng(0).permutation(candidates)
    permuted = {key: array[:, order] if key.startswith("candidate") else array for key, array in inputs.items()}
    assert_close(score(name, permuted), score(name, inputs)[:, order])


@every_model
def test_replacing_one_candidate_changes_no_other_score(name: str) -> None:
    inputs = draw(name, 2, 7, 5)
    before = score(name, inputs)
    inputs["candidate_items"][:, 2] = inputs["candidate_items"][:, 2] % 50 + 1
    inputs["candidate_genres"][:, 2] += 1
    changed = np.abs(score(name, inputs) - before) > TOLERANCE
    assert changed[:, 2].all()
    assert not changed[:, [0, 1, 3, 4]].any()


@every_model
@sizes
def test_padding_changes_no_score(name: str, batch: int, events: int, candidates: int) -> None:
    inputs = draw(name, batch, events, candidates)
    padded = pad_rows(pad_rows(inputs, "history", 9), "candidate", 4)
    assert_close(score(name, padded)[:, :candidates], score(name, inputs))


@every_model
def test_an_empty_history_has_finite_scores_whatever_its_padding(name: str) -> None:
    inputs = draw(name, 2, 12, 5)
    for key in ("history_items", "history_ratings"):
        inputs[key] = np.zeros_like(inputs[key])
    empty = score(name, inputs)
    assert np.isfinite(empty).all()
    assert_close(
        score(name, {key: array[:, :1] if "history" in key else array for key, array in inputs.items()}), empty
    )


@every_model
def test_a_summary_serves_any_candidates_and_any_request(name: str) -> None:
    kept = parts(name).encode(draw(name, 2, 20, 1))
    for candidates in (1, 6, 30):
        inputs = {**draw(name, 2, 20, candidates), **{key: draw(name, 2, 20, 1)[key] for key in user_inputs(name)}}
        assert_close(parts(name).score({**inputs, **kept})["scores"], score(name, inputs))


@every_model
def test_the_encoder_reads_the_user_and_the_scorer_does_not(name: str) -> None:
    cut = zoo_cut(name)
    summary = [tensor.name for tensor in cut.summary]
    assert parts(name).encode.inputs == user_inputs(name)
    assert parts(name).encode.outputs == summary
    rest = [tensor.name for tensor in cut.ranker.request + cut.ranker.candidate]
    assert parts(name).score.inputs == summary + rest
    assert parts(name).score.outputs == ["scores"]


@every_model
def test_a_summary_is_of_one_user(name: str) -> None:
    inputs = draw(name, 3, 12, 2, padded=True)
    together = parts(name).encode(inputs)
    for user in range(3):
        alone = parts(name).encode({key: array[user : user + 1] for key, array in inputs.items()})
        for key, kept in alone.items():
            np.testing.assert_allclose(kept[0], together[key][user], rtol=0, atol=TOLERANCE)


def user_inputs(name: str) -> list[str]:
    return [tensor.name for tensor in zoo_cut(name).ranker.user]


def summary_shapes(cut: Cut) -> dict[str, tuple[str, list[str]]]:
    return {tensor.name: (tensor.dtype, [str(size) for size in tensor.dims]) for tensor in cut.summary}


def test_the_summary_of_append_is_keys_and_values_of_every_layer_and_one_mask() -> None:
    key, value = ["batch", "2", "16", "history"], ["batch", "2", "history", "16"]
    kept = summary_shapes(zoo_cut("append"))
    mask = kept.pop("history_items_mask")
    assert mask[0] == "bool"
    assert sorted(set(mask[1]) - {"1"}) == ["batch", "history"]
    assert kept == {
        f"blocks_{layer}_{what}": ("float32", shape)
        for layer in (0, 1)
        for what, shape in (("key", key), ("value", value))
    }


def test_the_summary_of_hstu_is_keys_and_values_of_every_layer() -> None:
    kept = summary_shapes(zoo_cut("hstu"))
    assert sorted(kept) == ["blocks_0_key", "blocks_0_value", "blocks_1_key", "blocks_1_value"]


@pytest.mark.parametrize("name", ["vista", "lime_mha", "lime_xor"])
def test_the_summary_does_not_grow_with_the_history(name: str) -> None:
    (kept,) = summary_shapes(zoo_cut(name)).values()
    assert "history" not in kept[1]
    assert kept[1][0] == "batch"


def test_next_to_nothing_of_concat_is_kept_but_its_inputs() -> None:
    kept = summary_shapes(zoo_cut("concat"))
    assert all(shape[:1] == ["batch"] and shape[-1] == "history" for _, shape in kept.values())
    assert {dtype for dtype, _ in kept.values()} <= {"int64", "bool"}
