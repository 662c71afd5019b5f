"""Scores that differ from call to call are refused, with the line that is why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from cleave.builders.user_code.failure import UserCodeError
from cleave.builders.user_code.repeatable import check_repeatable
from tests.builders.models.foreign import NUM_ITEMS, ranker_of

INPUTS = {"history": torch.tensor([[1, 2, 3]]), "items": torch.tensor([[4, 5]])}
LINES = Path(__file__).read_text().splitlines()


class Scores(nn.Module):
    """A sum of the history times the candidates; subclasses disturb it."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, 4)
        self.calls = 0

    def disturbed(self, rows: torch.Tensor) -> torch.Tensor:
        return rows

    def forward(self, history: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = (self.disturbed(self.items(history)).sum(1, keepdim=True) * self.items(items)).sum(-1)
        return scores


class FunctionalDropout(Scores):
    def disturbed(self, rows: torch.Tensor) -> torch.Tensor:
        return functional.dropout(rows, 0.5)  # functional


class DropoutInTraining(Scores):
    def disturbed(self, rows: torch.Tensor) -> torch.Tensor:
        dropped: torch.Tensor = nn.Dropout(0.5).train()(rows)  # in training
        return dropped


class Noise(Scores):
    def disturbed(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + torch.randn_like(rows)  # noise


class Counts(Scores):
    def disturbed(self, rows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return rows * self.calls


class LayerDropout(Scores):
    """Right: nothing is dropped in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def disturbed(self, rows: torch.Tensor) -> torch.Tensor:
        kept: torch.Tensor = self.dropout(rows)
        return kept


class UnusedNoise(Scores):
    """Right: no score is made of what is drawn."""

    def disturbed(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + torch.zeros_like(torch.rand_like(rows))


@pytest.mark.parametrize(
    ("module", "mark"), [(FunctionalDropout, "# functional"), (DropoutInTraining, "# in training"), (Noise, "# noise")]
)
def test_randomness_is_named_with_its_line(module: type[Scores], mark: str) -> None:
    line = next(number for number, text in enumerate(LINES, 1) if text.endswith(mark))
    expected = rf"test_repeatable\.py:{line}: \w+ draws random numbers, so output 'scores' differs"
    with pytest.raises(UserCodeError, match=expected):
        check_repeatable(ranker_of("random", module()), INPUTS)


def test_state_is_told_from_randomness() -> None:
    with pytest.raises(UserCodeError, match=re.escape("ranker 'counts': the module keeps something from call to call")):
        check_repeatable(ranker_of("counts", Counts()), INPUTS)


@pytest.mark.parametrize("module", [Scores, LayerDropout, UnusedNoise])
def test_equal_scores_are_fine(module: type[Scores]) -> None:
    check_repeatable(ranker_of("right", module()), INPUTS)
