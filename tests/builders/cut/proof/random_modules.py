"""Modules drawn from a grammar of what people write: some are served right, some are not, and nobody says which.

Where every part of a module is known to be right whatever it is padded to, the module is known to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor as Values
from torch import nn
from torch.nn import functional

from cleave.builders import Axis, Ranker, Tensor
from cleave.builders.names import LEFT, RIGHT, PaddingSide
from tests.builders.cut.proof.readers import NUM_ITEMS, WIDTH, dot, masked_mean

FAR = 1e4
CAREFUL = 0.8
"""How often a part does what serving needs, where it may or may not: whole modules are right less often."""
LARGEST = 1000
"""Of axes, thresholds and slices."""

Draw = np.random.Generator
Read = Callable[[Values, Values], Values]
"""Ids `[batch, n]` and rows `[batch, n, WIDTH]` to `[batch, WIDTH]`."""
Change = Callable[[Values, Values], Values]
"""Scores `[batch, m]` and rows `[batch, m, WIDTH]` to scores."""


@dataclass(frozen=True)
class Part:
    """A part of a module, in words, and whether it is known to be served right."""

    words: str
    right: bool
    function: Read
    sizes: tuple[int, ...] = ()
    """Where it may change its mind."""


def small(rng: Draw, most: int = LARGEST) -> int:
    """A whole number up to `most`, small ones as likely as large ones."""
    return int(np.exp(rng.uniform(0, np.log(most + 1))))


def count_of(ids: Values) -> Values:
    return (ids != 0).sum(1, keepdim=True)


def place(rng: Draw, side: PaddingSide) -> tuple[str, bool, Callable[[Values], Values]]:
    """Where each row stands, `[batch or 1, n]`."""
    kinds: list[tuple[str, bool, Callable[[Values], Values]]] = [
        ("place", side == RIGHT, lambda ids: torch.arange(ids.shape[1])[None]),
        ("place from the end", side == LEFT, lambda ids: ids.shape[1] - 1 - torch.arange(ids.shape[1])[None]),
        ("place before the last event", side == RIGHT, lambda ids: count_of(ids) - 1 - torch.arange(ids.shape[1])),
        ("share of the axis", False, lambda ids: 100 * torch.arange(ids.shape[1])[None] / ids.shape[1]),
        (
            "share of the events",
            side == RIGHT,
            lambda ids: 100 * torch.arange(ids.shape[1])[None] / count_of(ids).clamp(min=1),
        ),
    ]
    chosen = [kind for kind in kinds if kind[1]] if rng.random() < 0.5 else kinds
    return chosen[int(rng.integers(len(chosen)))]


def weight(rng: Draw) -> tuple[str, Callable[[Values], Values], tuple[int, ...]]:
    """A function of a place."""
    k = small(rng)
    kinds: list[tuple[str, Callable[[Values], Values]]] = [
        ("1", lambda p: torch.ones_like(p, dtype=torch.float32)),
        (f"cos(./{k})", lambda p: torch.cos(p / k)),
        ("1/(1+.)", lambda p: 1 / (1 + p.abs())),
        (f"before {k}", lambda p: (p < k).float()),
        (f"from {k}", lambda p: (p >= k).float()),
        (f"every {k}.", lambda p: (p % k == 0).float()),
        (f"blocks of {k}", lambda p: (p // k % 2).float()),
    ]
    words, function = kinds[int(rng.integers(len(kinds)))]
    return words, function, (k, 2 * k)


def weighted_sum(rng: Draw, side: PaddingSide) -> Part:
    (where, stands, places), (how, weigh, sizes) = place(rng, side), weight(rng)
    masked = rng.random() < CAREFUL
    norm = int(rng.choice([0, 1, 2, 3], p=[0.4, 0.4, 0.1, 0.1]))

    def read(ids: Values, rows: Values) -> Values:
        factor = weigh(places(ids)) * (ids != 0 if masked else 1)
        total = (rows * factor.unsqueeze(-1)).sum(1)
        by = (1, count_of(ids).clamp(min=1), ids.shape[1], factor.abs().sum(1, keepdim=True) + 1)[norm]
        return 3 * total / by if norm else total / 10

    words = f"sum of {where}: {how}{', masked' * masked}, over {('10', 'events', 'rows', 'weights')[norm]}"
    return Part(words, masked and stands and norm != 2, read, sizes)


def maximum(rng: Draw, side: PaddingSide) -> Part:
    masked = rng.random() < CAREFUL

    def read(ids: Values, rows: Values) -> Values:
        lowered = rows - 2
        if masked:
            lowered = lowered.masked_fill((ids == 0).unsqueeze(-1), -FAR)
        return lowered.amax(1).clamp(min=-10)

    return Part(f"maximum{', masked' * masked}", masked, read)


def attention(rng: Draw, side: PaddingSide) -> Part:
    masked, causal = rng.random() < CAREFUL, rng.random() < 0.5

    def read(ids: Values, rows: Values) -> Values:
        logits = rows @ rows.transpose(1, 2)
        if causal:
            logits = logits.masked_fill(torch.ones(ids.shape[1], ids.shape[1]).triu(1).bool(), -FAR)
        if masked:
            logits = logits.masked_fill((ids == 0).unsqueeze(1), -FAR)
        return 3 * masked_mean(logits.softmax(-1) @ rows, ids != 0)

    # A causal row with no event before it reads what is masked, alike all of it.
    return Part(f"attention{', masked' * masked}{', causal' * causal}", masked and not causal, read)


def last(rng: Draw, side: PaddingSide) -> Part:
    by_event = rng.random() < 0.6

    def read(ids: Values, rows: Values) -> Values:
        if not by_event:
            return rows[:, -1]
        events = count_of(ids)
        return rows[torch.arange(len(rows)), (events[:, 0] - 1).clamp(min=0)] * (events > 0)

    return Part("last event" if by_event else "last row", by_event == (side == RIGHT), read)


def part_of_axis(rng: Draw, side: PaddingSide) -> Part:
    k, kind, masked = small(rng), int(rng.integers(4)), rng.random() < CAREFUL
    cut = (slice(-k, None), slice(k, None), slice(None, k), slice(None, None, k))[kind]

    def read(ids: Values, rows: Values) -> Values:
        real = ids[:, cut] != 0
        return 3 * masked_mean(rows[:, cut], real if masked else torch.ones_like(real))

    right = masked and (kind == 0 if side == LEFT else kind != 0)
    return Part(f"rows [{('-k:', 'k:', ':k', '::k')[kind]}], k = {k}{', masked' * masked}", right, read, (k,))


def threshold(rng: Draw, side: PaddingSide) -> Part:
    t, by_event, window = small(rng), rng.random() < 0.5, small(rng, 50) if rng.random() < 0.4 else None

    def read(ids: Values, rows: Values) -> Values:
        size = count_of(ids) if by_event else torch.ones_like(ids).sum(1, keepdim=True)
        high = (size > t) if window is None else (size > t) & (size <= t + window)
        return torch.where(high, 3.0, 1.0) * masked_mean(rows, ids != 0)

    words = f"{'events' if by_event else 'rows'} above {t}{'' if window is None else f' by up to {window}'}"
    return Part(words, by_event, read, (t, t + (window or 0)))


def neighbours(rng: Draw, side: PaddingSide) -> Part:
    k, kind = small(rng, 300), int(rng.integers(3))

    def read(ids: Values, rows: Values) -> Values:
        if kind == 0:
            return (torch.roll(rows, k, 1) * rows).sum(1) / 10
        products = rows[:, k:] * rows[:, :-k]
        if kind == 1:
            products = products * ((ids[:, k:] != 0) & (ids[:, :-k] != 0)).unsqueeze(-1)
        return products.sum(1) / 10

    return Part(f"neighbours at {k}, {('rolled', 'masked', 'shifted')[kind]}", kind == 1, read, (k,))


def sorted_rows(rng: Draw, side: PaddingSide) -> Part:
    masked, k = rng.random() < CAREFUL, small(rng, 20)

    def read(ids: Values, rows: Values) -> Values:
        keys = rows.masked_fill((ids == 0).unsqueeze(-1), FAR) if masked else rows
        return keys.sort(1).values[:, :k].clamp(max=5).amax(1)

    # Of fewer events than k the largest is padding, which is above all alike only if there is some.
    return Part(f"{k}. smallest{', masked' * masked}", False, read, (k,))


def blocks(rng: Draw, side: PaddingSide) -> Part:
    k, equal = max(2, small(rng, 100)), rng.random() < 0.4

    def read(ids: Values, rows: Values) -> Values:
        size = -(-rows.shape[1] // k) if equal else k
        masked = rows * (ids != 0).unsqueeze(-1)
        behind = -rows.shape[1] % size
        sums = functional.pad(masked, (0, 0, 0, behind)).reshape(len(rows), -1, size, WIDTH).sum(2)
        return sums.relu().sum(1) / 10

    return Part(f"{k} blocks" if equal else f"blocks of {k}", not equal and side == RIGHT, read, (k,))


READERS = (
    weighted_sum,
    weighted_sum,
    weighted_sum,
    maximum,
    attention,
    last,
    part_of_axis,
    threshold,
    neighbours,
    sorted_rows,
    blocks,
)


class Recurrent(nn.Module):
    """A GRU read at the last row or at the last event."""

    def __init__(self, at_event: bool, flipped: bool) -> None:
        super().__init__()
        self.over_time = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.at_event, self.flipped = at_event, flipped

    def forward(self, ids: Values, rows: Values) -> Values:
        states: Values = self.over_time(rows.flip(1) if self.flipped else rows)[0]
        if not self.at_event:
            return states[:, -1]
        events = count_of(ids)
        return states[torch.arange(len(rows)), (events[:, 0] - 1).clamp(min=0)] * (events > 0)


class Convolution(nn.Module):
    """A convolution over time, whose output is masked or not."""

    def __init__(self, dilation: int, masked: bool) -> None:
        super().__init__()
        self.over_time = nn.Conv1d(WIDTH, WIDTH, 3, padding=dilation, dilation=dilation)
        self.masked = masked

    def forward(self, ids: Values, rows: Values) -> Values:
        inputs = (rows * (ids != 0).unsqueeze(-1)).transpose(1, 2)
        read: Values = self.over_time(inputs).relu()
        return (read * (ids != 0).unsqueeze(1) if self.masked else read).sum(-1) / 10


def with_weights(rng: Draw, side: PaddingSide) -> Part:
    if rng.random() < 0.5:
        at_event, flipped = rng.random() < 0.6, rng.random() < 0.3
        words = f"recurrent{', flipped' * flipped}, read at the last {'event' if at_event else 'row'}"
        return Part(words, at_event and not flipped and side == RIGHT, Recurrent(at_event, flipped))
    dilation, masked = small(rng, 60), rng.random() < 0.6
    return Part(f"convolution, dilated by {dilation}{', masked' * masked}", masked, Convolution(dilation, masked))


def of_list(rng: Draw) -> Part:
    """What is done to the scores of a list: nothing, most often."""
    k = small(rng)

    def here(scores: Values) -> Values:
        return torch.arange(scores.shape[1])

    def size(scores: Values) -> Values:
        return torch.ones_like(scores).sum(1, keepdim=True)

    kinds: list[tuple[str, Change]] = [
        ("softmax", lambda s, c: s.softmax(1)),
        ("without the mean", lambda s, c: s - s.mean(1, keepdim=True)),
        (f"half from place {k}", lambda s, c: torch.where(here(s) >= k, s / 2, s)),
        (f"twice in lists above {k}", lambda s, c: torch.where(size(s) > k, 2 * s, s)),
        (f"twice in lists of {k}", lambda s, c: torch.where(size(s) == k, 2 * s, s)),
        (f"less the {k}th best", lambda s, c: s - s.sort(1, descending=True).values[:, :k][:, -1:]),
        (f"less the sum from {k} on", lambda s, c: s - s[:, k:].sum(1, keepdim=True)),
        (f"less the neighbour at {k}", lambda s, c: s - functional.pad(s, (k, 0))[:, : s.shape[1]]),
        (f"every {k}. is halved", lambda s, c: torch.where(here(s) % k == k - 1, s / 2, s)),
        ("twice the same is half as good", lambda s, c: s / (s[:, :, None] == s[:, None]).sum(-1)),
    ]
    right: list[tuple[str, Change]] = [
        ("as they are", lambda s, c: s),
        ("sigmoid", lambda s, c: s.sigmoid()),
        ("against the candidate's own rows", lambda s, c: s - c.mean(-1)),
        (f"capped at {k}", lambda s, c: s.clamp(max=k)),
    ]
    known = rng.random() < CAREFUL
    words, change = (right if known else kinds)[int(rng.integers(len(right if known else kinds)))]
    return Part(f"scores {words}", known, change, (k, k + 1))


def of_batch(rng: Draw) -> Part:
    """What is done to users of a batch: nothing, most often."""
    kinds: list[tuple[str, bool, Read]] = [
        ("without the mean of the batch", False, lambda ids, user: user - user.mean(0, keepdim=True)),
        ("over the longest of the batch", False, lambda ids, user: 10 * user / count_of(ids).amax().clamp(min=1)),
        ("against the first of the batch", False, lambda ids, user: user - user[:1] / 2),
        ("normalised", True, lambda ids, user: functional.layer_norm(user, (WIDTH,))),
    ]
    words, right, change = ("apart", True, lambda ids, user: user) if rng.random() < 0.85 else kinds[rng.integers(4)]
    return Part(f"users {words}", right, change)


class Composed(nn.Module):
    """The sum of what its parts read of one or two axes, against each candidate."""

    def __init__(self, readers: Sequence[Sequence[Part]], batch: Part, scores: Part, empty_row: bool) -> None:
        super().__init__()
        self.items = nn.Embedding(NUM_ITEMS, WIDTH)
        if empty_row:
            with torch.no_grad():
                self.items.weight[0] = 0.0
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.readers, self.batch, self.scores = readers, batch, scores
        self.with_weights = nn.ModuleList(
            part.function for parts in readers for part in parts if isinstance(part.function, nn.Module)
        )

    def user_of(self, *histories: Values) -> Values:
        read = torch.zeros(len(histories[0]), WIDTH)
        for ids, parts in zip(histories, self.readers, strict=True):
            for part in parts:
                read = read + part.function(ids, self.items(ids))
        return self.batch.function(histories[0], torch.tanh(self.mix(read)))

    def forward(self, history_items: Values, candidate_items: Values) -> Values:
        rows = self.items(candidate_items)
        return self.scores.function(dot(self.user_of(history_items), rows), rows)


class ComposedOfTwo(Composed):
    """The same with a second axis."""

    def forward(  # type: ignore[override]
        self, history_items: Values, other_items: Values, candidate_items: Values
    ) -> Values:
        rows = self.items(candidate_items)
        return self.scores.function(dot(self.user_of(history_items, other_items), rows), rows)


@dataclass(frozen=True)
class RandomRanker:
    """A ranker and what is known of it."""

    ranker: Ranker
    words: str
    known_right: bool
    sizes: tuple[int, ...] = field(repr=False)
    """At which it may change its mind."""


def random_axis(rng: Draw, name: str) -> Axis:
    most = max(20, small(rng))
    least = int(rng.choice([1, 1, 1, 4]))
    side: PaddingSide = RIGHT if rng.random() < 0.75 else LEFT
    return Axis(name, min=least, opt=min(most, 16), max=most, padding_side=side, min_real=int(rng.random() < 0.2))


def random_ranker(seed: int) -> RandomRanker:
    """The module of a seed, always the same."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    axes = [random_axis(rng, "history")]
    role = None
    if rng.random() < 0.25:
        axes.append(random_axis(rng, "other"))
        role = "user" if rng.random() < 0.5 else "request"
    readers = []
    for axis in axes:
        makers = [READERS[int(rng.integers(len(READERS)))] for _ in range(int(rng.integers(1, 3)))]
        if rng.random() < 0.1:
            makers[0] = with_weights
        readers.append([make(rng, axis.padding_side) for make in makers])
    batch, scores, empty_row = of_batch(rng), of_list(rng), rng.random() < 0.7
    parts = [*(part for parts in readers for part in parts), batch, scores]
    candidates = Axis("candidates", min=1, opt=10, max=max(20, small(rng)))
    other = (Tensor("other_items", "int64", (axes[-1],), high=NUM_ITEMS),)
    ranker = Ranker(
        name=f"random_{seed}",
        module=(ComposedOfTwo if role else Composed)(readers, batch, scores, empty_row),
        user=(Tensor("history_items", "int64", (axes[0],), high=NUM_ITEMS), *other * (role == "user")),
        request=other * (role == "request"),
        candidate=(Tensor("candidate_items", "int64", (candidates,), high=NUM_ITEMS),),
        output=(Tensor("scores", "float32", (candidates,)),),
    )
    words = "; ".join(part.words for part in parts) + "; padding is a row of its own" * (not empty_row)
    return RandomRanker(
        ranker, words, all(part.right for part in parts), tuple(size for part in parts for size in part.sizes)
    )
