"""hstu: gated attention without softmax, candidates in micro-batches (Zhai et al., arXiv 2402.17152)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional

from cleave.builders.spec import Ranker
from cleave.builders.zoo import movielens
from cleave.builders.zoo.layers import Head, SequenceEmbedding, check_heads, merge_heads, split_heads


class HstuBlock(nn.Module):
    """HSTU's layer, in place of attention and MLP.

        U, V, Q, K = split(SiLU(f1(LN(X))))       A = SiLU(Q K^T) / N       Y = f2(LN(A V) * U) + X

    Decisions where the paper is silent: f1 has no bias and is written as four products, so that rows which are only
    read cost two of them; padding is zero rows of V, which add nothing to a sum; N is `NUM_SUMMED`, a constant (public
    implementations take the length of the batch at run time, and scores then change with padding), and divides V,
    which is done once per event instead of once per reader.
    """

    NUM_SUMMED = 256

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        check_heads("HstuBlock", width, heads)
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, width, bias=False)
        self.norm_read = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def keys(self, rows: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """K and V / N [B, heads, S, D / heads] of rows [B, S, D]; where mask [B, S] is given and false, V is zero."""
        normed = self.norm(rows)
        value = functional.silu(self.value(normed)) / self.NUM_SUMMED
        if mask is not None:
            value = value * mask.unsqueeze(-1)
        return split_heads(functional.silu(self.key(normed)), self.heads), split_heads(value, self.heads)

    def forward(self, rows: Tensor, key: Tensor, value: Tensor, causal: bool = False, itself: bool = False) -> Tensor:
        """Rows [B, S, D] read K and V / N [B, heads, K, D / heads]; to [B, S, D].

        `causal`: row i reads the first i + 1 keys only. `itself`: a row reads its own key, too, as one product a row
        and never as an S x S matrix.
        """
        normed = self.norm(rows)
        query = split_heads(functional.silu(self.query(normed)), self.heads)
        weights = functional.silu(query @ key.transpose(-1, -2))
        read = (weights.tril() if causal else weights) @ value
        if itself:
            own_key, own_value = self.keys(rows)
            read = read + functional.silu((query * own_key).sum(-1, keepdim=True)) * own_value
        gated = self.norm_read(merge_heads(read)) * functional.silu(self.gate(normed))
        output: Tensor = rows + self.project(self.dropout(gated))
        return output


class Hstu(movielens.MovieLensModel):
    """History read causally; a candidate reads all history and itself: one mask of the paper's M-FALCON, in two parts.

    Candidates are never in a sequence with the history, so K and V of the history are what is kept, and a further
    micro-batch of M candidates costs O(M D^2 + M N D). Decisions: absolute positions counted from the oldest event;
    no bias `rab`, because a bias on the distance to the candidate changes with every new event and one between
    events would be an N x N gather; the last layer's events are read by nobody and not computed.
    """

    def __init__(self, num_items: int, max_events: int, layers: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embedding = SequenceEmbedding(num_items, movielens.NUM_RATINGS, max_events, width)
        self.blocks = nn.ModuleList(HstuBlock(width, heads, dropout) for _ in range(layers))
        self.head = Head(width, movielens.NUM_GENRES, movielens.REQUEST_IDS, dropout)

    def logits(self, **inputs: Tensor) -> Tensor:
        history_items = inputs["history_items"]
        mask = history_items != 0
        events = self.embedding.events(history_items, inputs["history_ratings"])
        candidates = self.embedding.candidates(inputs["candidate_items"])
        for depth, block in enumerate(self.blocks, start=1):
            assert isinstance(block, HstuBlock)
            key, value = block.keys(events, mask)
            candidates = block(candidates, key, value, itself=True)
            if depth < len(self.blocks):
                events = block(events, key, value, causal=True)
        logits: Tensor = self.head(candidates, inputs["candidate_genres"], inputs)
        return logits


def hstu(
    num_items: int = movielens.NUM_ITEMS,
    max_events: int = movielens.HISTORY.max,
    layers: int = 2,
    width: int = 32,
    heads: int = 2,
    dropout: float = 0.1,
) -> Ranker:
    module = Hstu(num_items, max_events, layers, width, heads, dropout)
    return movielens.ranker("hstu", module, num_items, replace(movielens.HISTORY, max=max_events))
