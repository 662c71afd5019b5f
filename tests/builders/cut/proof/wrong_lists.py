"""Models whose scores depend on which other candidates are in the list, and neighbours that do not."""

from __future__ import annotations

import torch
from torch import Tensor as Values
from torch import nn
from torch.nn import functional

from tests.builders.cut.proof.readers import WIDTH, ListFromFunction, Reader, dot, masked_mean

__all__ = ["RIGHT", "WRONG"]


def softmax(scores: Values, rows: Values) -> Values:
    return scores.softmax(1)


def sigmoid(scores: Values, rows: Values) -> Values:
    return scores.sigmoid()


def rank(scores: Values, rows: Values) -> Values:
    return scores.argsort(1).argsort(1).to(scores.dtype)


def above_the_best_ten(scores: Values, rows: Values) -> Values:
    """Scores against the worst of the ten best, or of the list where it has fewer."""
    kept = scores.sort(1, descending=True).values[:, :10]
    return scores - kept[:, -1:]


def running(scores: Values, rows: Values) -> Values:
    return scores.cumsum(1)


def running_features(scores: Values, rows: Values) -> Values:
    """Along the features, not the list."""
    return scores + rows.cumsum(-1).amax(-1)


def without_the_mean(scores: Values, rows: Values) -> Values:
    return scores - scores.mean(1, keepdim=True)


def without_the_mean_of_features(scores: Values, rows: Values) -> Values:
    return scores - rows.mean(-1)


def beyond_128(scores: Values, rows: Values) -> Values:
    """The candidates behind the 128th are scored by half."""
    late = torch.arange(scores.shape[1], device=scores.device) >= 128
    return torch.where(late, 0.5 * scores, scores)


def beyond_137_mean(scores: Values, rows: Values) -> Values:
    """What stands behind the 137th lowers everybody."""
    return scores - scores[:, 137:].sum(1, keepdim=True)


def by_the_first(scores: Values, rows: Values) -> Values:
    return scores - scores[:, :1]


def by_the_last(scores: Values, rows: Values) -> Values:
    return scores - scores[:, -1:]


def place_in_the_list(scores: Values, rows: Values) -> Values:
    place = torch.arange(scores.shape[1], device=scores.device).to(scores.dtype)
    return scores / (1 + place).log2().add(1.0)


def neighbour(scores: Values, rows: Values) -> Values:
    """Less of what is like the candidate in front, as diversity rules have it."""
    like = (rows[:, 1:] * rows[:, :-1]).sum(-1)
    return scores - functional.pad(like, (1, 0))


def neighbour_200_ahead(scores: Values, rows: Values) -> Values:
    """The same for the candidate 200 places ahead: lists of up to 200 are right."""
    like = (rows[:, 200:] * rows[:, :-200]).sum(-1)
    return scores - functional.pad(like, (200, 0))[:, : scores.shape[1]]


def mean_of_long_lists(scores: Values, rows: Values) -> Values:
    """The mean counts in lists of more than 250 candidates."""
    size = torch.ones_like(scores[0]).sum()
    return scores - torch.where(size > 250, scores.mean(1, keepdim=True), 0.0)


def by_size(scores: Values, rows: Values) -> Values:
    size = torch.ones_like(scores[0]).sum()
    return torch.where(size > 100, 2.0, 1.0) * scores


def in_lists_above_400(scores: Values, rows: Values) -> Values:
    """More candidates than the axis has: a client sends them in two requests."""
    size = torch.ones_like(scores[0]).sum()
    return torch.where(size > 400, 2.0, 1.0) * scores


def by_a_window_of_sizes(scores: Values, rows: Values) -> Values:
    """Lists of 210 to 219 only: neither a bucket nor beside one."""
    size = torch.ones_like(scores[0]).sum()
    return torch.where((size >= 210) & (size < 220), 2.0, 1.0) * scores


def temperature_of_the_batch(scores: Values, rows: Values) -> Values:
    """All users of a batch share the largest score."""
    return scores / scores.abs().amax().clamp(min=1.0)


def temperature_of_the_list(scores: Values, rows: Values) -> Values:
    return scores / scores.abs().amax(1, keepdim=True).clamp(min=1.0)


def temperature_of_the_item(scores: Values, rows: Values) -> Values:
    return scores / rows.abs().amax(-1).clamp(min=1.0)


def duplicates(scores: Values, rows: Values) -> Values:
    """A candidate that is in the list twice is worth half."""
    same = (rows[:, :, None] == rows[:, None]).all(-1).sum(-1)
    return scores / same


def interleaved(scores: Values, rows: Values) -> Values:
    """Even places and odd places are two lists."""
    even = torch.arange(scores.shape[1], device=scores.device) % 2 == 0
    return torch.where(even, scores, 0.9 * scores)


class ListAttention(Reader):
    """Candidates read each other, as a re-ranker has it."""

    def score(self, user: Values, candidates: Values) -> Values:
        read = (candidates @ candidates.transpose(1, 2)).softmax(-1) @ candidates
        return dot(user, candidates + read)


class OwnRowAttention(Reader):
    """The same with a mask that leaves every candidate itself alone."""

    def score(self, user: Values, candidates: Values) -> Values:
        itself = torch.eye(candidates.shape[1], dtype=torch.bool, device=candidates.device)
        weight = (candidates @ candidates.transpose(1, 2)).masked_fill(~itself, -1e9).softmax(-1)
        return dot(user, candidates + weight @ candidates)


class ListNorm(Reader):
    """A layer normalisation over the list."""

    def score(self, user: Values, candidates: Values) -> Values:
        scores = dot(user, candidates)
        mean, variance = scores.mean(1, keepdim=True), scores.var(1, keepdim=True, correction=0)
        return (scores - mean) / (variance + 1e-3).sqrt()


class RowNorm(Reader):
    """A layer normalisation over the features."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)

    def score(self, user: Values, candidates: Values) -> Values:
        return dot(user, self.norm(candidates))


class SumOfBothLengths(Reader):
    """Divides by events and candidates together, padding and all."""

    def forward(self, history_items: Values, candidate_items: Values) -> Values:
        rows = self.items(torch.cat([history_items, candidate_items], 1))
        user = rows[:, : history_items.shape[1]].sum(1) / rows.shape[1]
        return dot(torch.tanh(self.mix(user)), rows[:, history_items.shape[1] :])


class OneSequence(Reader):
    """Candidates behind the history in one sequence, a mean of the history alone."""

    def forward(self, history_items: Values, candidate_items: Values) -> Values:
        rows = self.items(torch.cat([history_items, candidate_items], 1))
        count = history_items.shape[1]
        user = masked_mean(rows[:, :count], history_items != 0)
        return dot(torch.tanh(self.mix(user)), rows[:, count:])


class PlacesBehindThePadding(Reader):
    """Candidates stand behind the history, and have the position where the padding ends."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Embedding(201, WIDTH)
        nn.init.normal_(self.places.weight)

    def forward(self, history_items: Values, candidate_items: Values) -> Values:
        rows = self.items(history_items)
        place = self.places.weight[torch.ones_like(history_items).sum(1)]
        user = masked_mean(rows, history_items != 0) + place
        return dot(torch.tanh(self.mix(user)), self.items(candidate_items))


class PlacesBehindTheEvents(PlacesBehindThePadding):
    """The same where the events end."""

    def forward(self, history_items: Values, candidate_items: Values) -> Values:
        rows = self.items(history_items)
        place = self.places.weight[(history_items != 0).sum(1)]
        user = masked_mean(rows, history_items != 0) + place
        return dot(torch.tanh(self.mix(user)), self.items(candidate_items))


WRONG = {
    function.__name__: lambda function=function: ListFromFunction(function)
    for function in (
        softmax,
        rank,
        above_the_best_ten,
        running,
        without_the_mean,
        beyond_128,
        beyond_137_mean,
        by_the_first,
        by_the_last,
        place_in_the_list,
        neighbour,
        neighbour_200_ahead,
        mean_of_long_lists,
        by_size,
        in_lists_above_400,
        by_a_window_of_sizes,
        temperature_of_the_batch,
        temperature_of_the_list,
        duplicates,
        interleaved,
    )
} | {kind.__name__: kind for kind in (ListAttention, ListNorm, SumOfBothLengths, PlacesBehindThePadding)}

RIGHT = {
    function.__name__: lambda function=function: ListFromFunction(function)
    for function in (
        sigmoid,
        running_features,
        without_the_mean_of_features,
        temperature_of_the_item,
    )
} | {kind.__name__: kind for kind in (OwnRowAttention, RowNorm, OneSequence, PlacesBehindTheEvents)}
