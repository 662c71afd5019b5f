"""Small models with one thing that serving may break: what the other files of models here are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor as Values
from torch import nn

from cleave.builders import Axis, Ranker, Tensor

NUM_ITEMS = 400
WIDTH = 8
HISTORY = Axis("history", min=1, opt=32, max=200)
CANDIDATES = Axis("candidates", min=1, opt=16, max=300)


class Reader(nn.Module):
    """Items have rows; a subclass or a function says what a user is and how candidates are scored."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)
        nn.init.normal_(self.items.weight)
        with torch.no_grad():
            self.items.weight[0] = 0.0
        self.mix = nn.Linear(WIDTH, WIDTH)

    def user_of(self, history: Values, rows: Values) -> Values:
        """The user, `[batch, WIDTH]`, from ids `[batch, history]` and rows `[batch, history, WIDTH]`."""
        return masked_mean(rows, history != 0)

    def forward(self, history_items: Values, candidate_items: Values) -> Values:
        user = torch.tanh(self.mix(self.user_of(history_items, self.items(history_items))))
        return self.score(user, self.items(candidate_items))

    def score(self, user: Values, candidates: Values) -> Values:
        """Scores `[batch, candidates]` of a user `[batch, WIDTH]` for rows `[batch, candidates, WIDTH]`."""
        return dot(user, candidates)


class FromFunction(Reader):
    """A reader of the history that has no weights of its own."""

    def __init__(self, read: Callable[[Values, Values], Values]) -> None:
        super().__init__()
        self.read = read

    def user_of(self, history: Values, rows: Values) -> Values:
        return self.read(history, rows)


class ListFromFunction(Reader):
    """A reader of the candidate list: changes the scores that a dot product gives."""

    def __init__(self, change: Callable[[Values, Values], Values]) -> None:
        super().__init__()
        self.change = change

    def score(self, user: Values, candidates: Values) -> Values:
        return self.change(dot(user, candidates), candidates)


def masked_mean(rows: Values, real: Values) -> Values:
    """The mean `[batch, d]` of the rows `[batch, n, d]` that are real `[batch, n]`; zeros where none is."""
    weight = real.to(rows.dtype).unsqueeze(-1)
    mean: Values = (rows * weight).sum(1) / weight.sum(1).clamp(min=1.0)
    return mean


def dot(user: Values, candidates: Values) -> Values:
    """Scores `[batch, m]` of a user `[batch, d]` for rows `[batch, m, d]`."""
    scores: Values = (candidates * user.unsqueeze(1)).sum(-1)
    return scores


def ranker_of(module: nn.Module, history: Axis = HISTORY, candidates: Axis = CANDIDATES) -> Ranker:
    """The usual ranker: one history of items, one list of items."""
    return Ranker(
        name="reader",
        module=module,
        user=(Tensor("history_items", "int64", (history,), high=NUM_ITEMS),),
        candidate=(Tensor("candidate_items", "int64", (candidates,), high=NUM_ITEMS),),
        output=(Tensor("scores", "float32", (candidates,)),),
    )
