"""concat: the baseline that pairs every event with the candidate (Hertel et al., arXiv 2412.06924)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from cleave.builders.spec import Axis, Ranker
from cleave.builders.zoo import movielens
from cleave.builders.zoo.layers import CrossAttentionBlock, Head, SequenceEmbedding

HISTORY = Axis("history", min=1, opt=128, max=1024)
CANDIDATES = Axis("candidates", min=1, opt=16, max=64)
"""Shorter than the other models': the Transformer runs over the whole history once per candidate."""


class Concat(movielens.MovieLensModel):
    """`x_i = [H_i ; C]` projected to d, a Transformer over each candidate's n pairs, their mean, the head.

    The candidate is in every row from the first product on, so next to nothing depends on the user alone.
    """

    def __init__(self, num_items: int, max_events: int, layers: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embedding = SequenceEmbedding(num_items, movielens.NUM_RATINGS, max_events, width)
        self.pair = nn.Linear(2 * width, width)
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, heads, dropout) for _ in range(layers))
        self.head = Head(width, movielens.NUM_GENRES, movielens.REQUEST_IDS, dropout)

    def logits(self, **inputs: Tensor) -> Tensor:
        history_items = inputs["history_items"]
        events = self.embedding.events(history_items, inputs["history_ratings"])
        candidates = self.embedding.candidates(inputs["candidate_items"])
        batch, num_events, width = events.shape
        num_candidates = candidates.shape[1]
        shape = (batch, num_candidates, num_events, width)
        pairs = torch.cat((events.unsqueeze(1).expand(shape), candidates.unsqueeze(2).expand(shape)), dim=-1)
        rows = self.pair(pairs).flatten(0, 1)
        mask = (history_items != 0).unsqueeze(1).expand(shape[:3]).flatten(0, 1)
        for block in self.blocks:
            rows = block(rows, mask)
        real = mask.unsqueeze(-1).to(rows.dtype)
        pooled = (rows * real).sum(1) / real.sum(1).clamp(min=1)
        logits: Tensor = self.head(pooled.unflatten(0, (batch, num_candidates)), inputs["candidate_genres"], inputs)
        return logits


def concat(
    num_items: int = movielens.NUM_ITEMS,
    max_events: int = HISTORY.max,
    layers: int = 2,
    width: int = 32,
    heads: int = 2,
    dropout: float = 0.1,
) -> Ranker:
    module = Concat(num_items, max_events, layers, width, heads, dropout)
    return movielens.ranker("concat", module, num_items, replace(HISTORY, max=max_events), CANDIDATES)
