"""vista: the history becomes a few summary tokens that candidates read (arXiv 2510.22049)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cleave.builders.spec import Axis, Ranker
from cleave.builders.zoo import movielens
from cleave.builders.zoo.layers import (
    INIT_STD,
    CrossAttentionBlock,
    Head,
    RecencyEmbedding,
    check_heads,
)

HISTORY = Axis("history", min=1, opt=1024, max=1_048_576)
"""Longer than the other models': stage 1 is linear in the number of events."""


class QuasiLinearBlock(nn.Module):
    """Quasi-linear attention (QLA), then the gated linear unit SGLU of TransNormerLLM, both on normed rows.

        O = phi(Q) phi( phi(K)^T V / N )       phi = SiLU       no row normalisation, bidirectional
        SGLU(X) = (X W_u * X W_v) W_o

    The D x D `state` in the middle is a sum over rows: parts of a sequence may be added into it, and must all be in
    before the outer phi. Decisions: N is the number of real tokens, events and seeds; SGLU has D hidden units; nothing
    has a bias, so that padding is rows of zeros, which stay zeros in every layer and add nothing to a state. At a
    million rows every pass over them counts: the products with W_v and with the output's W_o are taken on the D x D
    side, and heads are the diagonal blocks of one state (phi(0) = 0), with no rows transposed.
    """

    heads_apart: Tensor

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        check_heads("QuasiLinearBlock", width, heads)
        self.norm_attention = nn.LayerNorm(width, bias=False)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.project = nn.Linear(width, width, bias=False)
        self.norm_gate = nn.LayerNorm(width, bias=False)
        self.gate = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, width, bias=False)
        self.down = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        block = torch.ones(width // heads, width // heads)
        self.register_buffer("heads_apart", torch.kron(torch.eye(heads), block), persistent=False)

    def state(self, rows: Tensor) -> Tensor:
        """`phi(K)^T V` [B, D, D] of rows [B, S, D]."""
        normed = self.norm_attention(rows)
        key = functional.silu(self.key(normed))
        state: Tensor = self.value(key.transpose(-1, -2) @ normed) * self.heads_apart
        return state

    def forward(self, rows: Tensor, state: Tensor) -> Tensor:
        """Rows [B, S, D] read the whole sequence's `state / N` [B, D, D]; to [B, S, D]."""
        query = functional.silu(self.query(self.norm_attention(rows)))
        rows = rows + self.dropout(query @ self.project(functional.silu(state)))
        normed = self.norm_gate(rows)
        output: Tensor = rows + self.dropout(self.down(self.gate(normed) * self.up(normed)))
        return output


class Summarizer(nn.Module):
    """Stage 1: the rows of K learned seeds after QLA layers over [events ; seeds].

    Events and seeds are never joined in one tensor, so the last layer computes the seeds' rows only. Decision: the
    summary is layer-normed, which keeps its values within a small range for a cast to fewer bits.
    """

    def __init__(self, seeds: int, layers: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.seeds = nn.Parameter(torch.randn(seeds, width) * INIT_STD)
        self.blocks = nn.ModuleList(QuasiLinearBlock(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, events: Tensor, mask: Tensor) -> Tensor:
        """Events [B, N, D], read where mask [B, N] is true, to summary tokens [B, K, D]."""
        num_tokens = (mask.sum(1) + self.seeds.shape[0])[:, None, None]
        events = events * mask.unsqueeze(-1)
        seeds = self.seeds.unsqueeze(0)
        for depth, block in enumerate(self.blocks, start=1):
            assert isinstance(block, QuasiLinearBlock)
            state = (block.state(events) + block.state(seeds)) / num_tokens
            seeds = block(seeds, state)
            if depth < len(self.blocks):
                events = block(events, state)
        summary: Tensor = self.norm(seeds)
        return summary


class Reconstruction(nn.Module):
    """The loss that makes a summary hold the history: a causal decoder predicts each event from those before it.

        sum_i || v_i - u_{i+1} ||^2,  v = decoder(s_1 .. s_K, u_1 .. u_N)

    Decisions: the decoder is one causal Transformer block; the sum over events is their mean, or the weight of the
    loss would grow with the history; the events to predict are constants, or making all embeddings zero would be the
    best prediction; the last summary token predicts the first event.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.block = CrossAttentionBlock(width, heads, dropout, causal=True)
        self.predict = nn.Linear(width, width)

    def forward(self, summary: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Summary [B, K, D], events [B, N, D] and mask [B, N], padding last, to a number."""
        num_summary = summary.shape[1]
        rows = torch.cat((summary, events), dim=1)
        readable = torch.cat((mask.new_ones(summary.shape[:2]), mask), dim=1)
        predicted = self.predict(self.block(rows, readable)[:, num_summary - 1 : -1])
        error = (predicted - events.detach()).square().sum(-1) * mask
        loss: Tensor = error.sum() / mask.sum().clamp(min=1)
        return loss


class Vista(movielens.MovieLensModel):
    """Stage 1 summarizes the history; in stage 2 candidates read the summary tokens by cross-attention.

    What is kept per user is the summary, whatever the length of the history. Decisions: events are embedded with
    their age on a log scale (the whole history is encoded anew on every refresh, and a table of a million positions
    would be most of the model); stage 2 is append's block with K and V from the summary tokens, the same in every
    layer; one number of layers for both stages, as in the paper's 3 + 3.
    """

    RECONSTRUCTION_WEIGHT = 1.0

    def __init__(
        self, num_items: int, max_events: int, layers: int, seeds: int, width: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = RecencyEmbedding(num_items, movielens.NUM_RATINGS, max_events, width)
        self.summarize = Summarizer(seeds, layers, width, heads, dropout)
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, heads, dropout) for _ in range(layers))
        self.head = Head(width, movielens.NUM_GENRES, movielens.REQUEST_IDS, dropout)
        self.reconstruct = Reconstruction(width, heads, dropout)

    def logits(self, **inputs: Tensor) -> Tensor:
        history_items = inputs["history_items"]
        events = self.embedding.events(history_items, inputs["history_ratings"])
        summary = self.summarize(events, history_items != 0)
        rows = self.embedding.candidates(inputs["candidate_items"])
        for block in self.blocks:
            rows = block(rows, others=summary)
        logits: Tensor = self.head(rows, inputs["candidate_genres"], inputs)
        return logits

    def auxiliary_loss(self, **inputs: Tensor) -> Tensor:
        """The reconstruction loss, in training only: its decoder is no part of `forward`."""
        mask = inputs["history_items"] != 0
        events = self.embedding.events(inputs["history_items"], inputs["history_ratings"])
        loss: Tensor = self.RECONSTRUCTION_WEIGHT * self.reconstruct(self.summarize(events, mask), events, mask)
        return loss


def vista(
    num_items: int = movielens.NUM_ITEMS,
    layers: int = 2,
    seeds: int = 32,
    width: int = 32,
    heads: int = 2,
    dropout: float = 0.1,
) -> Ranker:
    module = Vista(num_items, HISTORY.max, layers, seeds, width, heads, dropout)
    return movielens.ranker("vista", module, num_items, HISTORY, boundary=("summarize",))
