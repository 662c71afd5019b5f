"""Models as others write them: one sequence with masks, fused projections, torch's own attention layers."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor as Values
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cleave.builders import Axis, Ranker, Tensor
from cleave.builders.cut.cut import Cut, cut_ranker

NUM_ITEMS = 60
WIDTH = 8
HEADS = 2
HISTORY = Axis("history", min=1, opt=32, max=200)
CANDIDATES = Axis("candidates", min=1, opt=16, max=64)


def ranker_of(name: str, module: nn.Module) -> Ranker:
    return Ranker(
        name=name,
        module=module,
        user=(Tensor("history", "int64", (HISTORY,)),),
        candidate=(Tensor("items", "int64", (CANDIDATES,)),),
        output=(Tensor("scores", "float32", (CANDIDATES,)),),
    )


class FusedBlock(nn.Module):
    """A pre-norm Transformer block with one projection for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, rows: Values, mask: Values, num_keys: int | None = None) -> Values:
        batch, count, _ = rows.shape
        query, key, value = self.qkv(self.norm(rows)).chunk(3, dim=-1)
        query = query.view(batch, count, HEADS, -1).transpose(1, 2)
        key, value = (part[:, :num_keys].unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (key, value))
        read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        rows = rows + self.out(read.transpose(1, 2).reshape(batch, count, WIDTH))
        changed: Values = rows + self.mlp(rows)
        return changed


class Sequence(nn.Module):
    """[history ; candidates] through fused blocks; subclasses say what is masked."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)
        self.blocks = nn.ModuleList(FusedBlock() for _ in range(2))
        self.score = nn.Linear(WIDTH, 1)

    def run(self, history: Values, items: Values, mask: Values, num_keys: int | None) -> Values:
        rows: Values = self.items(torch.cat([history, items], dim=1))
        for block in self.blocks:
            rows = block(rows, mask, num_keys)
        return rows


class KeysOfHistory(Sequence):
    """Keys are the history's rows of one sequence, which `torch.split` takes apart at the end."""

    def forward(self, history: Values, items: Values) -> Values:
        num_events, num_candidates = history.shape[1], items.shape[1]
        rows = self.run(history, items, (history != 0)[:, None, None, :], num_events)
        _, candidates = torch.split(rows, [num_events, num_candidates], dim=1)
        scores: Values = self.score(candidates).squeeze(-1)
        return scores


class JointMask(Sequence):
    """M-FALCON as written in one sequence: history is causal, a candidate reads the history and itself."""

    def forward(self, history: Values, items: Values) -> Values:
        num_events, count = history.shape[1], history.shape[1] + items.shape[1]
        places = torch.arange(count)
        itself = torch.eye(count, dtype=torch.bool)
        earlier = (places[None, :] <= places[:, None]) & (places < num_events)[None, :]
        real = torch.cat([history, items], dim=1) != 0
        mask = (earlier & real[:, None, :]) | itself
        rows = self.run(history, items, mask[:, None], None)
        scores: Values = self.score(rows).squeeze(-1)[:, num_events:]
        return scores


class TorchLayers(nn.Module):
    """A `nn.TransformerEncoder` over the history, whose rows candidates read by `nn.MultiheadAttention`."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, history: Values, items: Values) -> Values:
        padding = history == 0
        padding = padding & ~padding.all(dim=1, keepdim=True)  # attention over no keys is not a number here
        rows = self.encoder(self.items(history), src_key_padding_mask=padding)
        candidates = self.items(items)
        read, _ = self.attention(candidates, rows, rows, key_padding_mask=padding)
        scores: Values = self.score(candidates + read).squeeze(-1)
        return scores


class SequenceFirst(TorchLayers):
    """The same with the sequence before the batch, as torch's layers have it by default."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS)

    def forward(self, history: Values, items: Values) -> Values:
        padding = history == 0
        padding = padding & ~padding.all(dim=1, keepdim=True)
        rows = self.encoder(self.items(history).transpose(0, 1), src_key_padding_mask=padding)
        candidates = self.items(items).transpose(0, 1)
        read, _ = self.attention(candidates, rows, rows, key_padding_mask=padding)
        scores: Values = self.score(candidates + read).squeeze(-1).transpose(0, 1)
        return scores


class RowInFront(nn.Module):
    """Target attention by torch's layer; a learned row stands before the history, so that some key is never masked."""

    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.weights = weights
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)
        self.none = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.read = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, history: Values, items: Values) -> Values:
        candidates, events, masked = self.items(items), self.items(history), history == 0
        events = torch.cat([self.none.expand(len(events), -1, -1), events], 1)
        masked = torch.cat([torch.zeros_like(masked[:, :1]), masked], 1)
        read, _ = self.read(candidates, events, events, key_padding_mask=masked, need_weights=self.weights)
        scores: Values = (read * candidates).sum(-1)
        return scores


class RepeatedHistory(nn.Module):
    """One row a pair: the history is repeated for each candidate by `repeat_interleave`."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)

    def forward(self, history: Values, items: Values) -> Values:
        users = self.items(history.repeat_interleave(items.shape[1], dim=0)).sum(1)
        scores: Values = (users * self.items(items.reshape(-1))).sum(-1)
        return scores.reshape(items.shape)


class WithoutHeads(nn.Module):
    """Attention by `scaled_dot_product_attention` on `[batch, rows, d]`, masked."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)
        self.keys_and_values = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, history: Values, items: Values) -> Values:
        candidates = self.items(items)
        key, value = self.keys_and_values(self.items(history)).chunk(2, -1)
        read = functional.scaled_dot_product_attention(candidates, key, value, attn_mask=(history != 0)[:, None])
        scores: Values = ((candidates + read) * candidates).sum(-1)
        return scores


class LastState(nn.Module):
    """Recurrent layers, read at the last real event."""

    def __init__(self, layer: type[nn.GRU | nn.LSTM]) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)
        self.layer = layer(WIDTH, WIDTH, num_layers=2, batch_first=True)

    def forward(self, history: Values, items: Values) -> Values:
        states, _ = self.layer(self.items(history))
        real = history != 0
        last = (real.sum(1) - 1).clamp(min=0)[:, None, None].expand(-1, 1, WIDTH)
        user = states.gather(1, last) * real.any(1)[:, None, None]
        scores: Values = (user * self.items(items)).sum(-1)
        return scores


class PackedSequence(nn.Module):
    """Recurrent layers over a packed sequence, whose rows and last state candidates read."""

    def __init__(self, layer: type[nn.GRU | nn.LSTM], num_layers: int, bidirectional: bool) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)
        self.layer = layer(WIDTH, WIDTH, num_layers, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(WIDTH * (1 + bidirectional), WIDTH)

    def forward(self, history: Values, items: Values) -> Values:
        lengths = (history != 0).sum(1).clamp(min=1)
        packed = pack_padded_sequence(self.items(history), lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed, last = self.layer(packed)
        states, _ = pad_packed_sequence(packed, batch_first=True)
        cells = last[1] if isinstance(last, tuple) else last
        user = self.out(states.sum(1) / lengths[:, None]) + cells[-1] + cells[0]
        scores: Values = (user[:, None] * self.items(items)).sum(-1)
        return scores


class Bags(nn.Module):
    """The mean, the sum and the largest values of embedding bags over the history."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH)
        self.bags = nn.ModuleList(
            nn.EmbeddingBag(NUM_ITEMS, WIDTH, mode=mode, padding_idx=0) for mode in ("mean", "sum", "max")
        )

    def forward(self, history: Values, items: Values) -> Values:
        user = torch.stack([bag(history) for bag in self.bags]).sum(0)
        scores: Values = (user[:, None] * self.items(items)).sum(-1)
        return scores


class TorchDecoder(nn.Module):
    """Candidates, each for itself, through a `nn.TransformerDecoder` that reads a causal `nn.TransformerEncoder`.

    Neither layer is told whether its mask is causal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH, padding_idx=0)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, WIDTH, batch_first=True), 1)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, HEADS, WIDTH, batch_first=True), 1)
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, history: Values, items: Values) -> Values:
        causal = nn.Transformer.generate_square_subsequent_mask(history.shape[1])
        # Attention over no keys is not a number here: the first row is read by all, even where it is padding.
        padding = (history == 0) & (torch.arange(history.shape[1]) > 0)
        ahead = torch.zeros(padding.shape).masked_fill(padding, -torch.inf)
        rows = self.encoder(self.items(history), mask=causal, src_key_padding_mask=ahead)
        others = ~torch.eye(items.shape[1], dtype=torch.bool)
        read = self.decoder(self.items(items), rows, tgt_mask=others, memory_key_padding_mask=padding)
        scores: Values = self.score(read).squeeze(-1)
        return scores


MODULES: dict[str, Any] = {
    "keys_of_history": KeysOfHistory,
    "joint_mask": JointMask,
    "torch_layers": TorchLayers,
    "sequence_first": SequenceFirst,
    "row_in_front": functools.partial(RowInFront, weights=True),
    "row_in_front_without_weights": functools.partial(RowInFront, weights=False),
    "repeated_history": RepeatedHistory,
    "without_heads": WithoutHeads,
    "gru": functools.partial(LastState, nn.GRU),
    "lstm": functools.partial(LastState, nn.LSTM),
    "packed_gru": functools.partial(PackedSequence, nn.GRU, num_layers=1, bidirectional=True),
    "packed_lstm": functools.partial(PackedSequence, nn.LSTM, num_layers=2, bidirectional=False),
    "embedding_bags": Bags,
    "torch_decoder": TorchDecoder,
}


@functools.cache
def foreign_cut(name: str) -> Cut:
    """The cut of one of these models, with random weights."""
    torch.manual_seed(0)
    return cut_ranker(ranker_of(name, MODULES[name]()))
