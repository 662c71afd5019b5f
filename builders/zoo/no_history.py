"""no_history: what the head knows without the history, the floor that every other model must be above."""

from __future__ import annotations

from torch import Tensor

from cleave.builders.spec import Ranker
from cleave.builders.zoo import movielens
from cleave.builders.zoo.layers import Head, IdEmbedding


class NoHistory(movielens.MovieLensModel):
    """The candidate's embedding straight into the head: every input is taken, those of the history are not read.

    For training and evaluation only: nothing of it depends on the user, so there is nothing to cut.
    """

    def __init__(self, num_items: int, width: int, dropout: float) -> None:
        super().__init__()
        self.items = IdEmbedding(num_items + 1, width)
        self.head = Head(width, movielens.NUM_GENRES, movielens.REQUEST_IDS, dropout)

    def logits(self, **inputs: Tensor) -> Tensor:
        rows = self.items(inputs["candidate_items"])
        logits: Tensor = self.head(rows, inputs["candidate_genres"], inputs)
        return logits


def no_history(num_items: int = movielens.NUM_ITEMS, width: int = 32, dropout: float = 0.1) -> Ranker:
    return movielens.ranker("no_history", NoHistory(num_items, width, dropout), num_items)
