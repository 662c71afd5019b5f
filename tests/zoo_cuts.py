"""Small cuts of the zoo, made once a session: an export takes seconds."""

from __future__ import annotations

import functools

import torch

from builders.sources import load_ranker
from builders.spec import Ranker
from builders.split import Cut, cut_ranker

NUM_ITEMS = 50
WIDTH = 16


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
    """The cut of a small model of the zoo."""
    cut, _ = cut_ranker(randomized(load_ranker(name, {"num_items": NUM_ITEMS, "width": WIDTH})))
    return cut
