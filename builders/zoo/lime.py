"""lime: candidates weigh a few learned links, which alone read the history (arXiv 2510.18239)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cleave.builders.spec import Axis, Ranker
from cleave.builders.zoo import movielens
from cleave.builders.zoo.hstu import HstuBlock
from cleave.builders.zoo.layers import (
    CrossAttentionBlock,
    Head,
    RecencyEmbedding,
    check_heads,
    merge_heads,
    split_heads,
)

HISTORY = Axis("history", min=1, opt=1024, max=65_536)
CANDIDATES = Axis("candidates", min=1, opt=512, max=32_768)
"""Both longer than the other models': links make the cost linear in events and nearly flat in candidates."""


class MhaLinks(nn.Module):
    """LIME-MHA: `L_P = MHA(Q = L_C, K = V = history)`, O(r N D), in append's pre-norm block."""

    def __init__(self, layers: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, heads, dropout) for _ in range(layers))

    def forward(self, links: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """L_C [B, r, D], events [B, N, D] and their mask [B, N] to L_P [B, r, D]."""
        for block in self.blocks:
            links = block(links, mask, events)
        return links


class XorLinks(nn.Module):
    """LIME-XOR: HSTU blocks over [L_C ; history] under the XOR mask: links read events, events read links.

    Two cross-attentions a block, O(r N D), never a matrix of (r + N)^2. Decisions: no diagonal, neither links nor
    events read themselves; the last block's events are read by nobody and not computed.
    """

    def __init__(self, layers: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(HstuBlock(width, heads, dropout) for _ in range(layers))

    def forward(self, links: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """L_C [B, r, D], events [B, N, D] and their mask [B, N] to L_P [B, r, D]."""
        for depth, block in enumerate(self.blocks, start=1):
            assert isinstance(block, HstuBlock)
            read = block(links, *block.keys(events, mask))
            if depth < len(self.blocks):
                events = block(events, *block.keys(links))
            links = read
        return links


class Lime(movielens.MovieLensModel):
    """Links L, a table of r learned rows, read the history; candidates read the links.

        L_C = MLP([L, user features])           of the user
        L_P = `read_history`(L_C, history)      of the user: MhaLinks or XorLinks
        A = softmax(T L^T / sqrt(d))            of the item alone: T is the candidate's embedding, L the raw links
        O = A L_P                               of the pair
        logit = MLP([O, T, ...])

    All that is left of the pair is one product: the MLP's first layer takes O W as A (L_P W), so that W meets r links
    instead of M candidates. Decisions: softmax over links per head; an MLP of D hidden units, half as many as in the
    other models' heads, as the paper's is small; the user features of L_C are the mean of the events, because age,
    gender and occupation come with the request and would bind L_P to it (they enter at the head, as in every model);
    T is layer-normed and L starts at unit scale, or A would start uniform and O be the same for every candidate;
    events are embedded with their age on a log scale, for histories of up to 65,536 events.
    """

    columns_of_head: Tensor

    def __init__(
        self, read_history: nn.Module, num_items: int, links: int, width: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        check_heads("Lime", width, heads)
        self.heads = heads
        self.embedding = RecencyEmbedding(num_items, movielens.NUM_RATINGS, HISTORY.max, width)
        self.links = nn.Parameter(torch.randn(links, width))
        self.link_side = nn.Linear(width, width)
        self.user_side = nn.Linear(width, width, bias=False)
        self.personalize = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        self.read_history = read_history
        self.norm_item = nn.LayerNorm(width)
        self.head = Head(width, width + movielens.NUM_GENRES, movielens.REQUEST_IDS, dropout, hidden=width)
        columns_of_head = torch.eye(heads).repeat_interleave(width // heads, dim=1)
        self.register_buffer("columns_of_head", columns_of_head.unsqueeze(1), persistent=False)

    def personal_links(self, events: Tensor, mask: Tensor) -> Tensor:
        """L_C [B, r, D]: the MLP over each link and the mean of the real events [B, N, D]."""
        real = mask.unsqueeze(-1).to(events.dtype)
        mean = (events * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
        links: Tensor = self.personalize(self.link_side(self.links) + self.user_side(mean))
        return links

    def link_weights(self, items: Tensor) -> Tensor:
        """A [B, M, heads * r] of candidate embeddings T [B, M, D]."""
        links = split_heads(self.links.unsqueeze(0), self.heads)
        scaled = links.transpose(-1, -2) * (links.shape[-1] ** -0.5)
        return merge_heads(torch.softmax(split_heads(items, self.heads) @ scaled, dim=-1))

    def links_of_heads(self, links: Tensor) -> Tensor:
        """Links [B, r, D] once for each head [B, heads * r, D], each with the columns of its head only."""
        return (links.unsqueeze(1) * self.columns_of_head).flatten(1, 2)

    def logits(self, **inputs: Tensor) -> Tensor:
        mask = inputs["history_items"] != 0
        events = self.embedding.events(inputs["history_items"], inputs["history_ratings"])
        links = self.links_of_heads(self.read_history(self.personal_links(events, mask), events, mask))
        items = self.norm_item(self.embedding.candidates(inputs["candidate_items"]))
        item_features = torch.cat((items, inputs["candidate_genres"]), dim=-1)
        logits: Tensor = self.head(links, item_features, inputs, mix=self.link_weights(items))
        return logits


def lime_mha(
    num_items: int = movielens.NUM_ITEMS,
    layers: int = 1,
    links: int = 32,
    width: int = 32,
    heads: int = 2,
    dropout: float = 0.1,
) -> Ranker:
    module = Lime(MhaLinks(layers, width, heads, dropout), num_items, links, width, heads, dropout)
    return movielens.ranker("lime_mha", module, num_items, HISTORY, CANDIDATES)


def lime_xor(
    num_items: int = movielens.NUM_ITEMS,
    layers: int = 3,
    links: int = 32,
    width: int = 32,
    heads: int = 2,
    dropout: float = 0.1,
) -> Ranker:
    module = Lime(XorLinks(layers, width, heads, dropout), num_items, links, width, heads, dropout)
    return movielens.ranker("lime_xor", module, num_items, HISTORY, CANDIDATES)
