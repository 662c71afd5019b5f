"""append: the candidate is one more query over the history (Hertel et al., arXiv 2412.06924)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from cleave.builders.spec import Ranker
from cleave.builders.zoo import movielens
from cleave.builders.zoo.layers import CrossAttentionBlock, Head, SequenceEmbedding


class Append(movielens.MovieLensModel):
    """One sequence [H_1 .. H_N, C_1 .. C_M] through blocks whose keys and values are the history (Eq. 3).

    With m candidates in the sequence this is the paper's amortized pass of `1 x (n + m) x d`; with one candidate a
    row it is the regular one. Decisions where the paper is silent: pre-norm blocks, GELU feed-forward of 4d, learned
    absolute positions counted from the oldest event, bidirectional history.
    """

    def __init__(self, num_items: int, max_events: int, layers: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embedding = SequenceEmbedding(num_items, movielens.NUM_RATINGS, max_events, width)
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, heads, dropout) for _ in range(layers))
        self.head = Head(width, movielens.NUM_GENRES, movielens.REQUEST_IDS, dropout)

    def logits(self, **inputs: Tensor) -> Tensor:
        history_items = inputs["history_items"]
        mask = history_items != 0
        events = self.embedding.events(history_items, inputs["history_ratings"])
        candidates = self.embedding.candidates(inputs["candidate_items"])
        rows = torch.cat((events, candidates), dim=1)
        for block in self.blocks:
            rows = block(rows, mask)
        logits: Tensor = self.head(rows[:, history_items.shape[1] :], inputs["candidate_genres"], inputs)
        return logits


def append(
    num_items: int = movielens.NUM_ITEMS,
    max_events: int = movielens.HISTORY.max,
    layers: int = 2,
    width: int = 32,
    heads: int = 2,
    dropout: float = 0.1,
) -> Ranker:
    module = Append(num_items, max_events, layers, width, heads, dropout)
    return movielens.ranker("append", module, num_items, replace(movielens.HISTORY, max=max_events))
