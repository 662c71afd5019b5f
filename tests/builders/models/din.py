"""A model that is not ours, as its owner would write it: the Deep Interest Network, arXiv 1706.06978, in torch."""

from __future__ import annotations

import torch
from torch import Tensor as Values
from torch import nn

from cleave.builders import Axis, Ranker, Tensor

NUM_ITEMS = 1000
NUM_CATEGORIES = 50
WIDTH = 16


class DeepInterestNetwork(nn.Module):
    """Every candidate weighs the history by an MLP over [event, candidate, difference, product]."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)
        self.categories = nn.Embedding(NUM_CATEGORIES, WIDTH, padding_idx=0)
        self.attention = nn.Sequential(nn.Linear(8 * WIDTH, 32), nn.PReLU(), nn.Linear(32, 1))
        self.tower = nn.Sequential(nn.Linear(4 * WIDTH + 3, 32), nn.PReLU(), nn.Linear(32, 1), nn.Sigmoid())

    def embed(self, items: Values, categories: Values) -> Values:
        return torch.cat([self.items(items), self.categories(categories)], dim=-1)

    def forward(
        self,
        clicked_items: Values,
        clicked_categories: Values,
        context: Values,
        items: Values,
        categories: Values,
    ) -> Values:
        history = self.embed(clicked_items, clicked_categories)
        candidates = self.embed(items, categories)
        num_events, num_candidates = history.shape[1], candidates.shape[1]
        events = history.unsqueeze(1).expand(-1, num_candidates, -1, -1)
        targets = candidates.unsqueeze(2).expand(-1, -1, num_events, -1)
        pairs = torch.cat([events, targets, events - targets, events * targets], dim=-1)
        weights = self.attention(pairs).squeeze(-1)
        weights = weights * (clicked_items != 0).unsqueeze(1)
        interest = torch.matmul(weights, history)
        repeated = context.unsqueeze(1).expand(-1, num_candidates, -1)
        scores: Values = self.tower(torch.cat([interest, candidates, repeated], dim=-1)).squeeze(-1)
        return scores


history = Axis("clicks", min=1, opt=50, max=200)
candidates = Axis("candidates", min=1, opt=64, max=256)

torch.manual_seed(0)
ranker = Ranker(
    name="din",
    module=DeepInterestNetwork(),
    user=(Tensor("clicked_items", "int64", (history,)), Tensor("clicked_categories", "int64", (history,))),
    request=(Tensor("context", "float32", (3,)),),
    candidate=(Tensor("items", "int64", (candidates,)), Tensor("categories", "int64", (candidates,))),
    output=(Tensor("probabilities", "float32", (candidates,)),),
)
