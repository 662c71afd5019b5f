"""Narrower summaries: fewer bytes, nearly the same scores, and padding still has no effect."""

from __future__ import annotations

import numpy as np
import pytest

from cleave.builders.cut.cut import Cut
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.cut.summary_dtype import SummaryDtypeError, with_summary_dtype
from cleave.builders.onnx_graph.random_inputs import Arrays, draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.triton.configs import base_configs
from cleave.builders.triton.rules import check_configs
from cleave.builders.zoo import ZOO
from tests.zoo_cuts import zoo_cut

every_model = pytest.mark.parametrize("name", ZOO)
narrow_dtypes = pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("int8", 3e-2)])


def draw(cut: Cut, events: int = 23) -> Arrays:
    sizes = {"history": events, "candidates": 19}
    return draw_inputs(cut.ranker, sizes, 2, np.random.default_rng(0), padded=True)


@every_model
@narrow_dtypes
def test_scores_are_near_those_of_float32(name: str, dtype: str, tolerance: float) -> None:
    cut = zoo_cut(name)
    narrow = with_summary_dtype(cut, dtype)
    inputs = draw(cut)
    scores = EncoderThenScorer(narrow)(inputs)["scores"]
    np.testing.assert_allclose(scores, OnnxRunner(cut.whole)(inputs)["scores"], atol=tolerance)


@every_model
@narrow_dtypes
def test_the_summary_is_what_it_says(name: str, dtype: str, tolerance: float) -> None:
    narrow = with_summary_dtype(zoo_cut(name), dtype)
    summary = OnnxRunner(narrow.history_encoder)(draw(narrow))
    sizes = {"history": 23, "candidates": 19}
    assert {kept: str(array.dtype) for kept, array in summary.items()} == {t.name: t.dtype for t in narrow.summary}
    assert sum(array.nbytes for array in summary.values()) == 2 * narrow.summary_bytes(sizes)
    check_configs(base_configs(narrow))


@every_model
def test_int8_takes_a_little_more_than_a_quarter(name: str) -> None:
    cut = zoo_cut(name)
    if not any(tensor.dtype == "float32" for tensor in cut.summary):
        pytest.skip("this model keeps ids, which have no narrower form")
    sizes = cut.ranker.sizes("opt")
    quarter = cut.summary_bytes(sizes) / 4
    assert quarter < with_summary_dtype(cut, "int8").summary_bytes(sizes) < 2 * quarter


@every_model
def test_padding_changes_no_score_in_int8(name: str) -> None:
    narrow = with_summary_dtype(zoo_cut(name), "int8")
    parts = EncoderThenScorer(narrow)
    inputs = draw(narrow)
    padded = inputs | {key: np.pad(inputs[key], ((0, 0), (0, 9))) for key in ("history_items", "history_ratings")}
    np.testing.assert_allclose(parts(padded)["scores"], parts(inputs)["scores"], atol=1e-5)


def test_an_empty_history_is_finite_in_int8() -> None:
    """Rows of zeros have no scale to divide by."""
    narrow = with_summary_dtype(zoo_cut("append"), "int8")
    inputs = draw(narrow)
    inputs |= {key: np.zeros_like(inputs[key]) for key in ("history_items", "history_ratings")}
    assert np.isfinite(EncoderThenScorer(narrow)(inputs)["scores"]).all()


def test_float32_is_the_cut_itself() -> None:
    assert with_summary_dtype(zoo_cut("append"), "float32") is zoo_cut("append")


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(SummaryDtypeError, match="expected one of float32, float16, int8, got 'int4'"):
        with_summary_dtype(zoo_cut("append"), "int4")
