"""Self-attention append: the variant that can not be amortized, so that the tests of the properties can fail."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cleave.builders.spec import Ranker
from cleave.builders.zoo import movielens
from cleave.builders.zoo.append import Append
from cleave.builders.zoo.layers import CrossAttentionBlock


class SelfAttentionBlock(CrossAttentionBlock):
    """Keys and values include the candidates (papers.md, section 1).

    With `diagonal`, the candidates' part of the mask is diagonal and events read no candidate: then it can be
    amortized after all.
    """

    num_candidates = 0
    """Set before a call, because a mask over all rows does not say which of them are candidates."""

    def __init__(self, width: int, heads: int, diagonal: bool) -> None:
        super().__init__(width, heads, dropout=0.0)
        self.diagonal = diagonal

    def keys(self, normed: Tensor, mask: Tensor) -> Tensor:
        return normed

    def attend(self, queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        assert mask is not None
        candidates = mask.new_ones(mask.shape[0], queries.shape[1] - mask.shape[1])
        return super().attend(queries, keys, torch.cat((mask, candidates), dim=1))

    def readable(self, queries: Tensor, mask: Tensor) -> Tensor:
        readable = super().readable(queries, mask)
        if self.diagonal:
            events = torch.arange(mask.shape[1]) < mask.shape[1] - self.num_candidates
            readable = readable & (events | torch.eye(mask.shape[1], dtype=torch.bool))
        return readable


class SelfAttentionAppend(Append):
    """`Append` with blocks in which candidates are keys."""

    def __init__(self, num_items: int, width: int, heads: int, diagonal: bool) -> None:
        super().__init__(num_items, movielens.HISTORY.max, 2, width, heads, dropout=0.0)
        self.blocks = nn.ModuleList(SelfAttentionBlock(width, heads, diagonal) for _ in range(2))

    def logits(self, **inputs: Tensor) -> Tensor:
        for block in self.blocks:
            assert isinstance(block, SelfAttentionBlock)
            block.num_candidates = inputs["candidate_items"].shape[1]
        return super().logits(**inputs)


def self_attention_append(num_items: int = 50, width: int = 16, heads: int = 2, diagonal: bool = False) -> Ranker:
    """A `Ranker` whose candidates attend to each other, or to themselves alone with `diagonal`."""
    return movielens.ranker("self_attention_append", SelfAttentionAppend(num_items, width, heads, diagonal), num_items)
