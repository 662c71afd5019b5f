"""Inputs that change no score: all of the user or of the candidates are refused, single ones are named."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor as Values
from torch import nn

from cleave.builders import Ranker, Tensor
from cleave.builders.cut.cut import cut_ranker
from cleave.builders.cut.proof.ignored import IgnoredInputError, ignored_inputs
from cleave.builders.cut.proof.prove import prove
from tests.builders.cut.proof.readers import CANDIDATES, HISTORY, NUM_ITEMS, Reader, dot, ranker_of
from tests.builders.cut.proof.subjects import subject_of_module


class Rated(Reader):
    """Reads ratings and the hour of the request by so much."""

    def __init__(self, ratings: float = 1.0, hour: float = 1.0, user: float = 1.0, item: float = 1.0) -> None:
        super().__init__()
        self.by = ratings, hour, user, item

    def forward(  # type: ignore[override]
        self, history_items: Values, ratings: Values, hour: Values, candidate_items: Values
    ) -> Values:
        by_rating, by_hour, by_user, by_item = self.by
        rows = self.items(history_items) * (1 + by_rating * ratings.unsqueeze(-1))
        user = by_user * self.user_of(history_items, rows)
        candidates = by_item * self.items(candidate_items)
        scores: Values = dot(user, candidates) + user.sum(-1, keepdim=True) + candidates.sum(-1)
        return scores + by_hour * hour.unsqueeze(1)


def rated(module: nn.Module) -> Ranker:
    return dataclasses.replace(
        ranker_of(module),
        user=(
            Tensor("history_items", "int64", (HISTORY,), high=NUM_ITEMS),
            Tensor("ratings", "float32", (HISTORY,)),
        ),
        request=(Tensor("hour", "float32", ()),),
    )


def warnings_of(module: nn.Module) -> tuple[str, ...]:
    return ignored_inputs(subject_of_module(rated(module)))


def test_inputs_that_are_read_are_not_named() -> None:
    assert warnings_of(Rated()) == ()


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (Rated(ratings=0.0), ["'ratings' (user)"]),
        (Rated(hour=0.0), ["'hour' (request)"]),
        (Rated(ratings=0.0, hour=0.0), ["'ratings' (user)", "'hour' (request)"]),
    ],
)
def test_inputs_that_change_no_score_are_named(module: nn.Module, named: list[str]) -> None:
    warnings = warnings_of(module)
    assert len(warnings) == len(named)
    for warning, name in zip(warnings, named, strict=True):
        assert warning.startswith(
            f"ranker 'reader': input {name}: expected scores to depend on it, got the same scores"
        )


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Rated(user=0.0), r"inputs of the user \(history_items, ratings\): expected scores to depend on them"),
        (Rated(item=0.0), r"inputs of the candidate \(candidate_items\): expected scores to depend on them"),
    ],
)
def test_scores_without_the_user_or_the_candidate_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(IgnoredInputError, match=message):
        warnings_of(module)


class Late(Reader):
    """Reads what is behind the hundredth event, and behind the hundredth candidate's id."""

    def user_of(self, history: Values, rows: Values) -> Values:
        return super().user_of(history[:, 100:], rows[:, 100:])


def test_what_is_read_of_long_histories_alone_is_read() -> None:
    assert ignored_inputs(subject_of_module(ranker_of(Late()))) == ()


class Aged(Reader):
    """Reads how old the history is, in days; its spec does not say what times are like."""

    def forward(self, history_items: Values, day: Values, candidate_items: Values) -> Values:  # type: ignore[override]
        scores = super().forward(history_items, candidate_items)
        return scores * torch.where(day > 5000, 0.5, 1.0).unsqueeze(1)


def test_what_is_read_of_large_values_alone_is_read() -> None:
    ranker = dataclasses.replace(ranker_of(Aged()), request=(Tensor("day", "int64", ()),))
    assert ignored_inputs(subject_of_module(ranker)) == ()


def test_a_proof_warns() -> None:
    class Halved(Reader):
        def forward(self, history_items: Values, hour: Values, candidate_items: Values) -> Values:  # type: ignore[override]
            return super().forward(history_items, candidate_items) + torch.zeros_like(hour).unsqueeze(1)

    ranker = dataclasses.replace(ranker_of(Halved()), request=(Tensor("hour", "float32", ()),))
    assert ranker.candidate_axis == CANDIDATES
    (warning,) = prove(cut_ranker(ranker)).warnings
    assert "input 'hour' (request)" in warning
