"""Ordinary models whose scores hang on large integers, or on the bucket that a number is in.

Each may be computed wrongly where values are cast, compared, divided or put into buckets in another type or order.
"""

from __future__ import annotations

import torch
from torch import Tensor as Values
from torch import nn

from cleave.builders import Axis, Ranker, Tensor

NUM_ITEMS, WIDTH, NUM_BUCKETS = 50, 8, 40
HISTORY, CANDIDATES = Axis("history", min=1, opt=16, max=64), Axis("candidates", min=1, opt=8, max=32)


class Timed(nn.Module):
    """Sums items by the weight of a bucket that a subclass makes of times."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)
        self.buckets = nn.Embedding(NUM_BUCKETS, 1)

    def bucket(self, history_time: Values, request_time: Values) -> Values:
        raise NotImplementedError

    def forward(
        self, history_items: Values, history_time: Values, request_time: Values, candidate_items: Values
    ) -> Values:
        real = history_items != 0
        times = torch.where(real, history_time, request_time.unsqueeze(1))
        weight = self.buckets(self.bucket(times, request_time.unsqueeze(1)).clamp(0, NUM_BUCKETS - 1)).squeeze(-1)
        user = (self.items(history_items) * (weight * real).unsqueeze(-1)).sum(1)
        scores: Values = (self.items(candidate_items) * user.unsqueeze(1)).sum(-1)
        return scores


class LogOfGap(Timed):
    """The order of magnitude of a gap, as in HSTU's and TiSASRec's relative times."""

    def bucket(self, history_time: Values, request_time: Values) -> Values:
        return torch.log2((request_time - history_time).clamp(min=1).float()).floor().long()


class DigitsOfGap(Timed):
    def bucket(self, history_time: Values, request_time: Values) -> Values:
        return (torch.log10((request_time - history_time).abs() + 1.0) * 2).long()


class SessionStart(Timed):
    """Counted from the newest event in milliseconds."""

    def bucket(self, history_time: Values, request_time: Values) -> Values:
        newest = torch.maximum(history_time.max(1, keepdim=True).values, request_time)
        return (newest - history_time) // 86_400_000


class HourOfDay(Timed):
    """In float32, of seconds since midnight of some day."""

    def bucket(self, history_time: Values, request_time: Values) -> Values:
        seconds = (history_time % 10_000_000).float()
        return ((seconds % 86_400.0) // 3_600.0).long()


class RoundedDown(Timed):
    def bucket(self, history_time: Values, request_time: Values) -> Values:
        days = torch.div(request_time - history_time, 86_400, rounding_mode="floor")
        return torch.bucketize(days, torch.tensor([0, 1, 7, 30, 365, 2**31, 2**40]))


class BeforeAndAfter(Timed):
    """The side of a moment in 2023, and whether a gap is longer than 25 days of milliseconds."""

    def bucket(self, history_time: Values, request_time: Values) -> Values:
        side = torch.sign(history_time - 1_690_000_000_000) + 1
        return side * 2 + (request_time - history_time > 2**31).long()


class TotalGap(Timed):
    """Milliseconds are summed up to numbers that float64 does not have."""

    def bucket(self, history_time: Values, request_time: Values) -> Values:
        total = ((request_time - history_time) * 1000).sum(1, keepdim=True)
        return torch.fmod(total, 37).abs() + torch.zeros_like(history_time)


class Hashed(nn.Module):
    """Rows of tables that a multiplicative hash and a quotient choose, of ids of 64 bits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.quotients, self.remainders = nn.Embedding(97, WIDTH), nn.Embedding(101, WIDTH)

    def rows(self, ids: Values) -> Values:
        mixed = self.mixed(ids)
        rows: Values = self.quotients((ids // 101) % 97) + self.remainders(mixed % 101)
        return rows

    def mixed(self, ids: Values) -> Values:
        return ids * 2654435761 + 12345

    def forward(self, history_items: Values, candidate_items: Values) -> Values:
        user = (self.rows(history_items) * (history_items != 0).unsqueeze(-1)).sum(1)
        scores: Values = (self.rows(candidate_items) * user.unsqueeze(1)).sum(-1)
        return scores


class XorShifted(Hashed):
    def mixed(self, ids: Values) -> Values:
        mixed = (ids ^ (ids >> 33)) * 0x1B873593
        return torch.where(mixed < 0, -(mixed + 1), mixed)


class LowerBits(Hashed):
    def mixed(self, ids: Values) -> Values:
        return torch.fmod(ids & 0xFFFFFF, 1009) + torch.fmod(ids, 11)


TIMED = (LogOfGap, DigitsOfGap, SessionStart, HourOfDay, RoundedDown, BeforeAndAfter, TotalGap)
HASHED = (Hashed, XorShifted, LowerBits)


def timed(module: Timed, low: int | None = None, high: int | None = None) -> Ranker:
    return Ranker(
        name="timed",
        module=module,
        user=(
            Tensor("history_items", "int64", (HISTORY,)),
            Tensor("history_time", "int64", (HISTORY,), low=low, high=high),
        ),
        request=(Tensor("request_time", "int64", (), low=low, high=high),),
        candidate=(Tensor("candidate_items", "int64", (CANDIDATES,)),),
        output=(Tensor("scores", "float32", (CANDIDATES,)),),
    )


def hashed(module: Hashed) -> Ranker:
    return Ranker(
        name="hashed",
        module=module,
        user=(Tensor("history_items", "int64", (HISTORY,)),),
        candidate=(Tensor("candidate_items", "int64", (CANDIDATES,)),),
        output=(Tensor("scores", "float32", (CANDIDATES,)),),
    )
