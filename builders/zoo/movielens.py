"""The inputs every zoo model takes, named after MovieLens, and the module they are given to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cleave.builders import spec
from cleave.builders.spec import Axis, Ranker

NUM_ITEMS = 1682
"""Movies of MovieLens-100k; weights trained on another data set carry their own number."""
NUM_RATINGS = 10
"""Ratings are counted in half stars: 1 to 10; 0 is padding."""
NUM_GENRES = 20
NUM_HOURS = 24
NUM_AGES = 8
NUM_GENDERS = 3
NUM_OCCUPATIONS = 22

HISTORY = Axis("history", min=1, opt=256, max=4096)
CANDIDATES = Axis("candidates", min=1, opt=512, max=8192)

REQUEST_IDS = {
    "request_hour": NUM_HOURS,
    "user_age": NUM_AGES,
    "user_gender": NUM_GENDERS,
    "user_occupation": NUM_OCCUPATIONS,
}
"""Request inputs and their number of values; for the three about the user, 0 is unknown.

What is known of the user besides the history is sent with each request: it is a few bytes, it is never stale, and the
summary stays what the model reads of the history.
"""


class MovieLensModel(nn.Module):
    """A model of the zoo: subclasses give `logits`; `forward` gives the probability of a rating of 4 or more."""

    def logits(self, **inputs: Tensor) -> Tensor:
        """Every input of `ranker` by name to logits [B, M]."""
        raise NotImplementedError

    def auxiliary_loss(self, **inputs: Tensor) -> Tensor:
        """A loss besides the prediction's, added in training; zero unless a model has one."""
        return torch.zeros(())

    def forward(
        self,
        history_items: Tensor,
        history_ratings: Tensor,
        request_hour: Tensor,
        user_age: Tensor,
        user_gender: Tensor,
        user_occupation: Tensor,
        candidate_items: Tensor,
        candidate_genres: Tensor,
    ) -> Tensor:
        """Probabilities [B, M]."""
        return torch.sigmoid(
            self.logits(
                history_items=history_items,
                history_ratings=history_ratings,
                request_hour=request_hour,
                user_age=user_age,
                user_gender=user_gender,
                user_occupation=user_occupation,
                candidate_items=candidate_items,
                candidate_genres=candidate_genres,
            )
        )


def ranker(
    name: str,
    module: MovieLensModel,
    num_items: int,
    history: Axis = HISTORY,
    candidates: Axis = CANDIDATES,
    boundary: tuple[str, ...] = (),
) -> Ranker:
    """The `Ranker` of a zoo model.

    Ids outside their range read a trained "unknown" row. An event of item 0 is padding and is not read; a candidate 0
    is scored as the padding row.
    """
    return Ranker(
        name=name,
        module=module,
        user=(
            spec.Tensor("history_items", "int64", (history,), high=num_items + 1),
            spec.Tensor("history_ratings", "int64", (history,), high=NUM_RATINGS + 1),
        ),
        request=tuple(spec.Tensor(name, "int64", (), high=num_ids) for name, num_ids in REQUEST_IDS.items()),
        candidate=(
            spec.Tensor("candidate_items", "int64", (candidates,), high=num_items + 1),
            spec.Tensor("candidate_genres", "float32", (candidates, NUM_GENRES)),
        ),
        output=(spec.Tensor("scores", "float32", (candidates,)),),
        boundary=boundary,
    )
