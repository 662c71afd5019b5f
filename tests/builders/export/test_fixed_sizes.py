"""Code that decides by a size while it is traced is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cleave.builders.cut.cut import cut_ranker
from cleave.builders.cut.proof.agreement import ParityError
from cleave.builders.cut.proof.prove import prove
from cleave.builders.export.fixed_sizes import what_an_example_fixed
from tests.builders.models.foreign import MODULES, NUM_ITEMS, ranker_of

LINES = Path(__file__).read_text().splitlines()


class Scores(nn.Module):
    """A masked sum of the history times the candidates; subclasses decide something by a size."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, 4, padding_idx=0)

    def user(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.sum(1, keepdim=True)

    def forward(self, history: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        user = self.user(self.items(history))  # user
        scores: torch.Tensor = (user * self.items(items)).sum(-1)
        return scores


class Branch(Scores):
    def user(self, rows: torch.Tensor) -> torch.Tensor:
        total = super().user(rows)
        if rows.shape[1] > 10:
            total = total * 2
        return total


class OtherBranch(Scores):
    """The example takes the longer branch."""

    def user(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.shape[1] > 10:
            return super().user(rows)
        return rows.cumsum(1)[:, -1:]


def line_of(mark: str) -> str:
    line = next(number for number, text in enumerate(LINES, 1) if text.endswith(f"  # {mark}"))
    return f"test_fixed_sizes.py:{line}"


@pytest.mark.parametrize("module", [Branch, OtherBranch])
def test_the_line_of_forward_that_leads_to_a_branch_is_named(module: type[Scores]) -> None:
    said = what_an_example_fixed(ranker_of("branch", module()))
    assert said is not None
    assert (
        f"{line_of('user')} is exported otherwise for history 3, candidates 4 than for history 200, candidates 64"
        in said
    )


def test_a_build_says_why_the_graph_is_not_the_module() -> None:
    with pytest.raises(ParityError, match=r"ONNX against torch .*is exported otherwise for history 3.*torch.where"):
        prove(cut_ranker(ranker_of("branch", Branch())), budget_s=1)


@pytest.mark.parametrize("name", ["row_in_front", "repeated_history", "gru"])
def test_nothing_is_said_of_modules_for_any_size(name: str) -> None:
    assert what_an_example_fixed(ranker_of(name, MODULES[name]())) is None
