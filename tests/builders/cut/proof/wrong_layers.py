"""Layers over time that read the padding behind a history, and their twins that a mask makes right."""

from __future__ import annotations

import torch
from torch import Tensor as Values
from torch import nn
from torch.nn import functional

from tests.builders.cut.proof.readers import WIDTH, Reader, masked_mean
from tests.builders.cut.proof.wrong_histories import FAR, last_real_row


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
