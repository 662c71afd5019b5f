"""Models whose user changes with the padding behind the history, and their twins that a mask makes right."""

from __future__ import annotations

import torch
from torch import Tensor as Values
from torch.nn import functional

from tests.builders.cut.proof.readers import FromFunction, masked_mean

FAR = 1e9
"""Larger than any value of a row: what a masked minimum or maximum puts in place of padding."""


def last_row(history: Values, rows: Values) -> Values:
    return rows[:, -1]


def last_real_row(history: Values, rows: Values) -> Values:
    count = (history != 0).sum(1)
    last = rows[torch.arange(rows.shape[0]), (count - 1).clamp(min=0)]
    return last * (count > 0).unsqueeze(-1)


def last_twenty(history: Values, rows: Values) -> Values:
    return masked_mean(rows[:, -20:], history[:, -20:] != 0)


def last_twenty_real(history: Values, rows: Values) -> Values:
    real = history != 0
    behind = real.flip(1).cumsum(1).flip(1)  # real events from here to the end
    return masked_mean(rows, real & (behind <= 20))


def place_from_the_end(history: Values, rows: Values) -> Values:
    count = rows.shape[1]
    weight = 1.0 / (count - torch.arange(count, device=rows.device)).to(rows.dtype)
    return (rows * weight[None, :, None]).sum(1)


def place_from_the_last_event(history: Values, rows: Values) -> Values:
    real = (history != 0).to(rows.dtype)
    age = real.sum(1, keepdim=True) - torch.arange(rows.shape[1], device=rows.device)
    return (rows * (real / age.clamp(min=1.0)).unsqueeze(-1)).sum(1)


def place_from_the_start(history: Values, rows: Values) -> Values:
    weight = 1.0 / (1 + torch.arange(rows.shape[1], device=rows.device)).to(rows.dtype)
    return (rows * weight[None, :, None]).sum(1)


def relative_place(history: Values, rows: Values) -> Values:
    """Positions as a share of the length, as timelines have them."""
    share = torch.arange(rows.shape[1], device=rows.device).to(rows.dtype) / rows.shape[1]
    return (rows * share[None, :, None]).sum(1)


def relative_to_the_real(history: Values, rows: Values) -> Values:
    real = (history != 0).to(rows.dtype)
    share = torch.arange(rows.shape[1], device=rows.device).to(rows.dtype) / real.sum(1, keepdim=True).clamp(min=1.0)
    return (rows * share.unsqueeze(-1)).sum(1)


def mean_of_all(history: Values, rows: Values) -> Values:
    return rows.mean(1)


def mean_of_the_real(history: Values, rows: Values) -> Values:
    return masked_mean(rows, history != 0)


def mean_beyond_sixteen(history: Values, rows: Values) -> Values:
    """Right up to 16 events: only what is behind them is averaged without a mask."""
    late = rows[:, 16:]
    return rows[:, :16].sum(1) + late.sum(1) / max(1, 1) / (late.shape[1] + 1)


def mean_beyond_sixteen_real(history: Values, rows: Values) -> Values:
    return rows[:, :16].sum(1) + masked_mean(rows[:, 16:], history[:, 16:] != 0)


def maximum(history: Values, rows: Values) -> Values:
    """The rows of padding are zeros, above every real value."""
    return (-1 - rows.abs() * (history != 0).unsqueeze(-1)).where((history != 0).unsqueeze(-1), rows).amax(1)


def largest(history: Values, rows: Values) -> Values:
    """Padding counts only where every event is below it: of long histories almost never."""
    return rows.amax(1)


def largest_of_late(history: Values, rows: Values) -> Values:
    """The same of what is behind 30 events, and without padding if there are fewer than 40."""
    late = rows[:, 30:].masked_fill(
        (history[:, 30:] == 0).unsqueeze(-1) & (torch.ones_like(history[0]).sum() < 40), -FAR
    )
    return functional.pad(late, (0, 0, 0, 1), value=-10.0).amax(1)


def masked_maximum(history: Values, rows: Values) -> Values:
    real = (history != 0).unsqueeze(-1)
    return (-1 - rows.abs()).masked_fill(~real, -FAR).amax(1).clamp(min=-100.0)


def softmax_over_padding(history: Values, rows: Values) -> Values:
    """Attention by a softmax whose padding has the weight exp(0)."""
    return (rows.sum(-1).softmax(1).unsqueeze(-1) * rows).sum(1)


def masked_softmax(history: Values, rows: Values) -> Values:
    weight = rows.sum(-1).masked_fill(history == 0, -FAR).softmax(1)
    return (weight.unsqueeze(-1) * rows).sum(1)


def standardised(history: Values, rows: Values) -> Values:
    """Mean and deviation over the padded axis."""
    return (rows / (rows.var(1, keepdim=True, correction=0) + 1.0).sqrt()).sum(1)


def standardised_real(history: Values, rows: Values) -> Values:
    real = history != 0
    mean = masked_mean(rows, real).unsqueeze(1)
    variance = masked_mean((rows - mean).square(), real).unsqueeze(1)
    return (rows / (variance + 1.0).sqrt()).sum(1)


def halves(history: Values, rows: Values) -> Values:
    """The older and the newer half of the padded axis."""
    half = rows.shape[1] // 2
    return rows[:, :half].sum(1) - rows[:, half:].sum(1)


def halves_of_the_real(history: Values, rows: Values) -> Values:
    real = history != 0
    old = torch.arange(rows.shape[1], device=rows.device) < (real.sum(1, keepdim=True) // 2)
    return (rows * old.unsqueeze(-1)).sum(1) - (rows * (real & ~old).unsqueeze(-1)).sum(1)


def reversed_places(history: Values, rows: Values) -> Values:
    """The newest event first: padding is what stands in front."""
    weight = 0.9 ** torch.arange(rows.shape[1], device=rows.device).to(rows.dtype)
    return (rows.flip(1) * weight[None, :, None]).sum(1)


def every_third(history: Values, rows: Values) -> Values:
    """Every third event counted from the end of the axis."""
    return rows.flip(1)[:, ::3].sum(1)


def every_third_from_the_start(history: Values, rows: Values) -> Values:
    return rows[:, ::3].sum(1)


def long_histories(history: Values, rows: Values) -> Values:
    """Another formula where the axis is longer than 100, by its size."""
    size = torch.ones_like(history[0]).sum()
    return torch.where(size > 100, 2.0, 1.0) * rows.sum(1)


def long_histories_by_events(history: Values, rows: Values) -> Values:
    size = (history != 0).sum(1, keepdim=True)
    return torch.where(size > 100, 2.0, 1.0) * rows.sum(1)


def middling_histories(history: Values, rows: Values) -> Values:
    """Another formula for axes of 140 to 150 events: no bucket is among them, so that served it never happens."""
    size = torch.ones_like(history[0]).sum()
    return torch.where((size >= 140) & (size < 150), 2.0, 1.0) * rows.sum(1)


def wrapped(history: Values, rows: Values) -> Values:
    """The neighbour of the first event is the last row, as `torch.roll` has it."""
    return (torch.roll(rows, 1, 1) * rows).sum(1)


def neighbours(history: Values, rows: Values) -> Values:
    return (rows[:, 1:] * rows[:, :-1]).sum(1)


def steps(history: Values, rows: Values) -> Values:
    """Differences of neighbours: the last event is compared with padding."""
    return (rows[:, 1:] - rows[:, :-1]).abs().sum(1)


def steps_between_the_real(history: Values, rows: Values) -> Values:
    return ((rows[:, 1:] - rows[:, :-1]).abs() * (history[:, 1:] != 0).unsqueeze(-1)).sum(1)


def sorted_median(history: Values, rows: Values) -> Values:
    return rows.sort(1).values[:, 0]


def smallest_real(history: Values, rows: Values) -> Values:
    return rows.masked_fill((history == 0).unsqueeze(-1), FAR).sort(1).values[:, 0].clamp(max=100.0)


def others_in_the_batch(history: Values, rows: Values) -> Values:
    """What a batch normalisation does that was left in training mode."""
    user = rows.sum(1)
    return user - user.mean(0, keepdim=True)


def longest_of_the_batch(history: Values, rows: Values) -> Values:
    """A mask made of the longest length in the batch instead of every user's own."""
    length = (history != 0).sum(1).max()
    return rows.sum(1) / length.clamp(min=1)


def own_length(history: Values, rows: Values) -> Values:
    return rows.sum(1) / (history != 0).sum(1, keepdim=True).clamp(min=1)


def running_totals(history: Values, rows: Values) -> Values:
    totals: Values = rows.cumsum(1)[:, -1] / rows.shape[1] ** 0.5
    return totals


def last_running_total(history: Values, rows: Values) -> Values:
    return rows.cumsum(1)[:, -1]


WRONG = {
    function.__name__: lambda function=function: FromFunction(function)
    for function in (
        last_row,
        last_twenty,
        place_from_the_end,
        relative_place,
        mean_of_all,
        mean_beyond_sixteen,
        maximum,
        largest,
        largest_of_late,
        softmax_over_padding,
        standardised,
        halves,
        reversed_places,
        every_third,
        long_histories,
        middling_histories,
        wrapped,
        steps,
        sorted_median,
        others_in_the_batch,
        longest_of_the_batch,
        running_totals,
    )
}

RIGHT = {
    function.__name__: lambda function=function: FromFunction(function)
    for function in (
        last_real_row,
        last_twenty_real,
        place_from_the_last_event,
        place_from_the_start,
        relative_to_the_real,
        mean_of_the_real,
        mean_beyond_sixteen_real,
        masked_maximum,
        masked_softmax,
        standardised_real,
        halves_of_the_real,
        every_third_from_the_start,
        long_histories_by_events,
        neighbours,
        steps_between_the_real,
        smallest_real,
        own_length,
        last_running_total,
    )
}
