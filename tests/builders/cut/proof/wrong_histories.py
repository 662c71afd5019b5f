"""Models whose user changes with the padding behind the history, and their twins that a mask makes right."""

from __future__ import annotations

import torch
from torch import Tensor as Values
from torch import nn
from torch.nn import functional

from tests.builders.cut.proof.readers import WIDTH, FromFunction, Reader, masked_mean

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


def in_blocks(rows: Values, size: int) -> Values:
    """`[batch, n, ...]` as `[batch, n / size, size, ...]`."""
    return rows.reshape(rows.shape[0], -1, size, *rows.shape[2:])


class Blocks(Reader):
    """Attention within blocks of 32 events; zeros complete the last, as padding does."""

    masked = False

    def user_of(self, history: Values, rows: Values) -> Values:
        return self.read_blocks(history, rows, 32)

    def read_blocks(self, history: Values, rows: Values, size: int) -> Values:
        behind = (size - rows.shape[1] % size) % size
        blocks = in_blocks(functional.pad(rows, (0, 0, 0, behind)), size)
        real = in_blocks(functional.pad(history, (0, behind)), size) != 0
        logits = blocks @ blocks.transpose(-1, -2)
        if self.masked:
            logits = logits.masked_fill(~real[:, :, None, :], -FAR)
        read = (logits.softmax(-1) @ blocks) * real.unsqueeze(-1)
        user: Values = read.sum((1, 2))
        return user


class FourBlocks(Blocks):
    """Four blocks of equal size, which depends on how long the padding is."""

    masked = True

    def user_of(self, history: Values, rows: Values) -> Values:
        return self.read_blocks(history, rows, (rows.shape[1] + 3) // 4)


class MaskedBlocks(Blocks):
    masked = True


class PooledBlocks(Reader):
    """Means of 32 events, the last of fewer, as `avg_pool1d` with `ceil_mode` has them."""

    def user_of(self, history: Values, rows: Values) -> Values:
        pooled = functional.avg_pool1d(rows.transpose(1, 2), 32, ceil_mode=True, count_include_pad=False)
        return pooled.relu().sum(-1)


class SummedBlocks(Reader):
    """Sums of 8 events: padding adds zeros to the last and blocks of zeros, which `relu` leaves at zero."""

    def user_of(self, history: Values, rows: Values) -> Values:
        behind = (8 - rows.shape[1] % 8) % 8
        return in_blocks(functional.pad(rows, (0, 0, 0, behind)), 8).sum(2).relu().sum(1)


class Convolution(Reader):
    """A dilated convolution over time whose bias and edge let padding in."""

    masked = False

    def __init__(self) -> None:
        super().__init__()
        self.over_time = nn.Conv1d(WIDTH, WIDTH, 3, padding=4, dilation=4)

    def user_of(self, history: Values, rows: Values) -> Values:
        read: Values = self.over_time(rows.transpose(1, 2)).relu()
        if self.masked:
            read = read * (history != 0).unsqueeze(1)
        return read.sum(-1)


class MaskedConvolution(Convolution):
    masked = True


class StridedConvolution(Reader):
    """A strided convolution counts windows, of which padding makes more."""

    def __init__(self) -> None:
        super().__init__()
        self.over_time = nn.Conv1d(WIDTH, WIDTH, 4, stride=4, padding=3)

    def user_of(self, history: Values, rows: Values) -> Values:
        user: Values = self.over_time(rows.transpose(1, 2)).relu().mean(-1)
        return user


class Recurrent(Reader):
    """A GRU read at its end, behind the padding."""

    flipped = False

    def __init__(self) -> None:
        super().__init__()
        self.over_time = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def user_of(self, history: Values, rows: Values) -> Values:
        return self.states(rows.flip(1) if self.flipped else rows)[:, -1]

    def states(self, rows: Values) -> Values:
        states: Values = self.over_time(rows)[0]
        return states


class FlippedRecurrent(Recurrent):
    """The newest event first: padding is what the GRU begins with."""

    flipped = True


class RecurrentAtTheLastEvent(Recurrent):
    """Causal, read where the last real event stands."""

    def user_of(self, history: Values, rows: Values) -> Values:
        return last_real_row(history, self.states(rows))


class Bidirectional(Reader):
    """A GRU in both directions: the one that runs backwards begins with the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.over_time = nn.GRU(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)

    def user_of(self, history: Values, rows: Values) -> Values:
        return masked_mean(self.over_time(rows)[0], history != 0)


class Normalised(Reader):
    """A batch normalisation over all rows, with the statistics of this batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH, track_running_stats=False)

    def user_of(self, history: Values, rows: Values) -> Values:
        return masked_mean(self.norm(rows.transpose(1, 2)).transpose(1, 2), history != 0)


class NormalisedByTraining(Reader):
    """The same with the statistics of training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)
        nn.init.normal_(self.norm.running_mean)  # type: ignore[arg-type]

    def user_of(self, history: Values, rows: Values) -> Values:
        return masked_mean(self.norm(rows.transpose(1, 2)).transpose(1, 2), history != 0)


class PlacesFromTheEnd(Reader):
    """Learnt positions that count back from the end of the axis."""

    by_event = False

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Embedding(256, WIDTH)

    def user_of(self, history: Values, rows: Values) -> Values:
        real = history != 0
        count = real.sum(1, keepdim=True) if self.by_event else rows.shape[1]
        age = (count - 1 - torch.arange(rows.shape[1], device=rows.device)).clamp(min=0).expand(history.shape)
        return masked_mean(torch.tanh(rows + self.places(age)), real)


class PlacesFromTheLastEvent(PlacesFromTheEnd):
    by_event = True


class ShortTable(Reader):
    """Learnt positions for 100 events of the 200 that the axis has: torch itself cannot run beyond."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Embedding(100, WIDTH)

    def user_of(self, history: Values, rows: Values) -> Values:
        places = self.places(torch.arange(rows.shape[1], device=rows.device))
        return masked_mean(torch.tanh(rows + places), history != 0)


class CausalAttention(Reader):
    """Attention to what came before, unmasked: padding stands behind and is never read."""

    def user_of(self, history: Values, rows: Values) -> Values:
        count = rows.shape[1]
        hidden = torch.ones(count, count, dtype=torch.bool, device=rows.device).triu(1)
        weight = (rows @ rows.transpose(1, 2)).masked_fill(hidden, -FAR).softmax(-1)
        return masked_mean(weight @ rows, history != 0)


class FullAttention(Reader):
    """Attention to all events, padding among them."""

    def user_of(self, history: Values, rows: Values) -> Values:
        return masked_mean((rows @ rows.transpose(1, 2)).softmax(-1) @ rows, history != 0)


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
} | {
    kind.__name__: kind
    for kind in (
        FourBlocks,
        PooledBlocks,
        Convolution,
        StridedConvolution,
        Recurrent,
        FlippedRecurrent,
        Bidirectional,
        Normalised,
        PlacesFromTheEnd,
        ShortTable,
        FullAttention,
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
} | {
    kind.__name__: kind
    for kind in (
        Blocks,
        MaskedBlocks,
        SummedBlocks,
        MaskedConvolution,
        RecurrentAtTheLastEvent,
        NormalisedByTraining,
        PlacesFromTheLastEvent,
        CausalAttention,
    )
}
