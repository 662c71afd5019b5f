from __future__ import annotations

import re

import numpy as np
import pytest

from cleave.serving.errors import InputError
from cleave.serving.onnx.input_rules import InputRules
from tests.serving import toy

RULES = InputRules.from_config(toy.triton_config(toy.config("toy_whole")))


def test_a_valid_request_is_accepted_at_both_bounds_of_every_axis(rng: np.random.Generator) -> None:
    for history in (toy.HISTORY.min, toy.HISTORY.max):
        for candidates in (toy.CANDIDATES.min, toy.CANDIDATES.max):
            RULES.check(toy.graph_inputs(toy.request(rng, history, candidates, users=2)))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"candidates": 0}, "input 'candidate_items': axis 'candidates': expected 1 to 64, got 0; send at least 1"),
        ({"history": 33}, "input 'history_items': axis 'history': expected 1 to 32, got 33; send at most 32"),
    ],
)
def test_an_axis_out_of_bounds_is_refused(sizes: dict[str, int], message: str, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        RULES.check(toy.graph_inputs(toy.request(rng, **sizes)))


def test_inputs_that_share_an_axis_must_agree_on_its_size(rng: np.random.Generator) -> None:
    inputs = toy.request(rng) | {"history_weights": np.ones((1, 3), np.float32)}
    with pytest.raises(InputError, match=r"'history_weights'.*expected 4 as input 'history_items' has, got 3"):
        RULES.check(toy.graph_inputs(inputs))


def test_another_rank_is_refused(rng: np.random.Generator) -> None:
    inputs = toy.graph_inputs(toy.request(rng)) | {"candidate_items": np.zeros(8, np.int64)}
    with pytest.raises(InputError, match=re.escape("'candidate_items': expected shape [batch, candidates], got [8]")):
        RULES.check(inputs)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_float_that_is_not_finite_is_refused_where_it_is(value: float, rng: np.random.Generator) -> None:
    inputs = toy.graph_inputs(toy.request(rng))
    inputs["candidate_tags"][0, 5, 2] = value
    with pytest.raises(InputError, match=rf"'candidate_tags': expected finite numbers, got {value} at \[0, 5, 2\]"):
        RULES.check(inputs)


def test_a_summary_is_not_searched_for_nan() -> None:
    rules = InputRules.from_config(toy.triton_config(toy.config("toy_candidate_scorer")))
    assert rules.finite == {"candidate_tags", "candidate_items", "request_hour"}


def test_a_model_without_a_signature_has_no_rules() -> None:
    rules = InputRules.from_config(toy.triton_config(toy.config("lookup_whole")))
    rules.check({"ids": np.full((1, 1000), np.nan)})


def test_an_axis_without_bounds_is_compared_only() -> None:
    rules = InputRules({"a": ("history + 1",), "b": ("history + 1",)}, bounds={}, finite=frozenset())
    rules.check({"a": np.zeros((1, 9)), "b": np.zeros((1, 9))})
    with pytest.raises(InputError, match="expected 9 as input 'a' has, got 8"):
        rules.check({"a": np.zeros((1, 9)), "b": np.zeros((1, 8))})
