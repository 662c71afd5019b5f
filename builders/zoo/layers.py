"""Layers that more than one zoo model is made of. Shapes: B users, N events, M candidates, S rows, D width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

INIT_STD = 0.05
POSITION_INIT_STD = 0.005
"""Smaller: few histories are long, so later positions keep what they began with, which must not be noise."""
UNKNOWN_RATE = 0.01
"""Share of ids replaced by "unknown" in training, so that the unknown row is worth looking up."""


class IdEmbedding(nn.Module):
    """An embedding table whose ids outside `[0, num_ids)` read one trained "unknown" row.

    The check is in the graph because engines disagree: a negative index wraps in ONNX and is undefined in TensorRT,
    so a wrong id would give a score instead of a defined result.
    """

    def __init__(self, num_ids: int, width: int) -> None:
        super().__init__()
        self.num_ids = num_ids
        self.weight = nn.Parameter(torch.randn(num_ids + 1, width) * INIT_STD)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape [...] to [..., D]."""
        unknown = (ids < 0) | (ids >= self.num_ids)
        if self.training:
            unknown = unknown | (torch.rand(ids.shape, device=ids.device) < UNKNOWN_RATE)
        return functional.embedding(torch.where(unknown, self.num_ids, ids), self.weight)


class SequenceEmbedding(nn.Module):
    """Events and candidates as rows of width D: item, rating, and the position counted from the oldest event.

    Item 0 and rating 0 are padding. A candidate has a learned marker where an event has rating and position.
    """

    def __init__(self, num_items: int, num_ratings: int, max_events: int, width: int) -> None:
        super().__init__()
        self.items = IdEmbedding(num_items + 1, width)
        self.ratings = IdEmbedding(num_ratings + 1, width)
        self.positions = nn.Parameter(torch.randn(max_events, width) * POSITION_INIT_STD)
        self.marker = nn.Parameter(torch.randn(width) * INIT_STD)

    def events(self, history_items: Tensor, history_ratings: Tensor) -> Tensor:
        """[B, N] and [B, N] to [B, N, D]."""
        rows: Tensor = self.items(history_items) + self.ratings(history_ratings) + self.places(history_items)
        return rows

    def places(self, history_items: Tensor) -> Tensor:
        """What says where each of [B, N] events stands: [N, D] or [B, N, D]."""
        return self.positions[: history_items.shape[1]]

    def candidates(self, candidate_items: Tensor) -> Tensor:
        """[B, M] to [B, M, D]."""
        rows: Tensor = self.items(candidate_items) + self.marker
        return rows


class RecencyEmbedding(SequenceEmbedding):
    """A `SequenceEmbedding` whose positions are ages on a log scale: for histories too long for a table of positions.

        bucket = floor(log2(age + 1.5)),  age = number of real events after this one

    so the newest event is alone, and the ages 1-2, 3-6, 7-14, ... share a row each. Ages change with every new event:
    only for models that encode the whole history anew anyway.
    """

    def __init__(self, num_items: int, num_ratings: int, max_events: int, width: int) -> None:
        super().__init__(num_items, num_ratings, max_events.bit_length(), width)

    def places(self, history_items: Tensor) -> Tensor:
        """The rows of the events' ages: [B, N, D]."""
        real = (history_items != 0).long()
        age = real.sum(1, keepdim=True) - real.cumsum(1)
        # Buckets end half way between two ages, so that an engine's rounding of the logarithm moves no event to the
        # next one (beyond 2^17 events, where half an age is lost in float32, it may move one of those at the edge).
        bucket = torch.log2(age.float() + 1.5).long()
        # The clamp is for ages beyond `max_events`: they must not read behind the table.
        return functional.embedding(bucket.clamp(0, self.positions.shape[0] - 1), self.positions)


def check_heads(where: str, width: int, heads: int) -> None:
    """ValueError unless `width` is shared out evenly among `heads`."""
    if heads < 1 or width % heads:
        raise ValueError(f"{where}: width {width} is not a multiple of heads {heads}; change either")


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """[B, S, D] to [B, heads, S, D / heads]."""
    batch, num_rows, width = rows.shape
    return rows.view(batch, num_rows, heads, width // heads).transpose(1, 2)


def merge_heads(rows: Tensor) -> Tensor:
    """[B, heads, S, D / heads] to [B, S, D]."""
    return rows.transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """GELU feed-forward of `4 * width`, row by row."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(self, rows: Tensor) -> Tensor:
        output: Tensor = self.layers(rows)
        return output


class CrossAttentionBlock(nn.Module):
    """Pre-norm Transformer block whose keys and values are the first N rows only: Hertel et al., Eq. 3.

        Q = W_q [H_1 .. H_N, C_1 .. C_M]      K = W_k [H_1 .. H_N]      V = W_v [H_1 .. H_N]

    Every row reads the history, none reads a candidate; a candidate's own value arrives through the residual and
    the feed-forward path. Attention over no keys is zero: padded rows of V are zero, so a history of nothing but
    padding averages zeros. `causal` lets event i read the events up to i only; candidates always read all of them.
    """

    def __init__(self, width: int, heads: int, dropout: float, causal: bool = False) -> None:
        super().__init__()
        check_heads("CrossAttentionBlock", width, heads)
        self.heads = heads
        self.causal = causal
        self.norm_attention = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.project = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, mask: Tensor | None = None, others: Tensor | None = None) -> Tensor:
        """Rows [B, S, D] to [B, S, D].

        The keys are the first N of the rows, or all rows of another sequence `others` [B, N, D]. Of these, rows read
        the ones where mask [B, N] is true; without a mask, which needs `others`, all.
        """
        normed = self.norm_attention(rows)
        if others is None:
            assert mask is not None, "the mask says how many of the rows are keys"
            keys = self.keys(normed, mask)
        else:
            keys = self.norm_attention(others)
        rows = rows + self.dropout(self.attend(normed, keys, mask))
        output: Tensor = rows + self.dropout(self.feed_forward(self.norm_feed_forward(rows)))
        return output

    def keys(self, normed: Tensor, mask: Tensor) -> Tensor:
        """The rows that keys and values are made of: [B, N, D]."""
        return normed[:, : mask.shape[1]]

    def attend(self, queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """Queries [B, S, D] read keys [B, K, D], those where mask [B, K] is true or all; to [B, S, D]."""
        query = split_heads(self.query(queries), self.heads) * (queries.shape[-1] // self.heads) ** -0.5
        key = split_heads(self.key(keys), self.heads)
        value = self.value(keys)
        weights = query @ key.transpose(-1, -2)
        if mask is not None:
            value = value * mask.unsqueeze(-1)
            weights = weights.masked_fill(~self.readable(queries, mask), torch.finfo(weights.dtype).min)
        read = torch.softmax(weights, dim=-1) @ split_heads(value, self.heads)
        output: Tensor = self.project(merge_heads(read))
        return output

    def readable(self, queries: Tensor, mask: Tensor) -> Tensor:
        """Which of K keys each of S queries reads, broadcastable to [B, heads, S, K]."""
        readable = mask[:, None, None, :]
        if self.causal:
            earlier = torch.ones(queries.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device).tril()
            readable = readable & earlier
        return readable


class Head(nn.Module):
    """DLRM head: an MLP over candidate output, candidate features, and user and request features.

    The first layer is written as a sum of one product per side, which equals the product with their concatenation,
    does not repeat the request's side for every candidate, and leaves the candidate features' side to the item alone.
    """

    def __init__(
        self, width: int, num_candidate_features: int, ids: dict[str, int], dropout: float, hidden: int | None = None
    ) -> None:
        """`ids`: for each integer user or request feature, its name and number of values; `hidden`: 2D by default."""
        super().__init__()
        hidden = hidden or 2 * width
        self.candidate = nn.Linear(width + num_candidate_features, hidden)
        self.features = nn.ModuleDict({name: IdEmbedding(num_ids, hidden) for name, num_ids in ids.items()})
        self.output = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, 1))

    def forward(
        self, rows: Tensor, candidate_features: Tensor, features: dict[str, Tensor], mix: Tensor | None = None
    ) -> Tensor:
        """Rows [B, M, D], candidate features [B, M, F] and features [B] by name, to logits [B, M].

        With `mix` [B, M, R], the rows are [B, R, D] and a candidate's row is its mix of them, `mix @ rows`; the first
        layer's product is then taken of the R rows, before they are mixed.
        """
        request = self.candidate.bias
        for name, embedding in self.features.items():
            request = request + embedding(features[name])
        weight, width = self.candidate.weight, rows.shape[-1]
        hidden = functional.linear(rows, weight[:, :width])
        if mix is not None:
            hidden = mix @ hidden
        hidden = hidden + functional.linear(candidate_features, weight[:, width:])
        logits: Tensor = self.output(hidden + request.unsqueeze(-2)).squeeze(-1)
        return logits
