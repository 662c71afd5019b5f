"""Cuts of the zoo as it is committed, trained weights and all, made once a session: an export takes seconds."""

from __future__ import annotations

import functools

import torch

from cleave.builders.cut.cut import Cut, cut_ranker
from cleave.builders.load import load_ranker
from cleave.builders.spec import Ranker
from cleave.builders.zoo.movielens import NUM_ITEMS

__all__ = ["NUM_ITEMS", "randomized", "zoo_cut"]


def randomized(ranker: Ranker, seed: int = 0) -> Ranker:
    """The ranker in evaluation mode, weights as far from their initial values as trained ones; wrong scores show."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in ranker.module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    ranker.module.eval()
    return ranker


@functools.cache
def zoo_cut(name: str) -> Cut:
    """The cut of a model of the zoo."""
    ranker = load_ranker(name)
    ranker.module.eval()
    return cut_ranker(ranker)
