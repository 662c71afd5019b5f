"""Turns a data set into batches of examples: who rates what, and what the model may know at that moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cleave.builders.training.data_movielens import LIKED, SECONDS_PER_HOUR, IntArray, MovieLens

Part = Literal["train", "validation", "test"]

TEST_SHARE = 10
"""One in ten of a user's ratings, rounded down: the last are the test, as many before them the validation."""

MAX_TOKENS = 1 << 13
"""The most candidates times history length in one batch. It keeps activations in the processor's caches, which is
fastest, and bounds the memory of the model that needs the most."""

LARGEST_BATCH = 1024
"""The most candidates in one batch."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a batch: each is one user at one moment, with one or more candidates rated from then on.

    The history of a row is every event of the user before the first candidate: nothing later, whatever the count.
    """

    users: IntArray
    """[R]: the user's row in `MovieLens`."""
    firsts: IntArray
    """[R]: the event of the first candidate."""
    counts: IntArray
    """[R]: the number of candidates: the events from `firsts` on, all of this user and of one hour."""

    def __len__(self) -> int:
        return len(self.users)

    def take(self, places: IntArray) -> Rows:
        """The rows at these places."""
        return Rows(self.users[places], self.firsts[places], self.counts[places])


@dataclass(frozen=True, eq=False)
class Batch:
    """The inputs of a model by name, each [R, ...], with the labels [R, M] of the candidates."""

    inputs: dict[str, NDArray[Any]]
    labels: NDArray[np.float32]
    """1 where the candidate was rated 4 stars or more."""
    real: NDArray[np.bool_]
    """False where a row has fewer candidates than the batch is wide."""


def part_bounds(data: MovieLens, part: Part) -> tuple[IntArray, IntArray]:
    """The first event of each user's part, and the one after its last, as two arrays [users]."""
    tenth = np.diff(data.starts) // TEST_SHARE
    test, end = data.starts[1:] - tenth, data.starts[1:]
    validation = test - tenth
    return {"train": (data.starts[:-1], validation), "validation": (validation, test), "test": (test, end)}[part]


def exact_rows(data: MovieLens, part: Part) -> Rows:
    """One row per rating of the part: its history is all that came before it."""
    return block_rows(data, part, 1)


def block_rows(data: MovieLens, part: Part, size: int, rng: np.random.Generator | None = None) -> Rows:
    """Rows of up to `size` consecutive ratings that share the history before the first of them.

    Sharing a history is what makes training cheap; a candidate's history then lacks the events within its own block.
    A block ends with the hour, so that the request's inputs are right for all of it. With `rng` the blocks
    start elsewhere each time, so that every rating is at times the first of its block.
    """
    starts, ends = part_bounds(data, part)
    counts = ends - starts
    users = np.repeat(np.arange(data.num_users), counts)
    events = np.arange(len(users)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
    hours = data.times[events] // SECONDS_PER_HOUR
    visit_starts = np.flatnonzero(np.diff(users, prepend=-1).astype(bool) | np.diff(hours, prepend=-1).astype(bool))
    visits = np.diff(visit_starts, append=len(users))
    phases = np.zeros(len(visits), np.int64) if rng is None else rng.integers(size, size=len(visits))
    in_visit = np.arange(len(users)) - np.repeat(visit_starts, visits)
    begins = np.flatnonzero((in_visit == 0) | ((in_visit + np.repeat(phases, visits)) % size == 0))
    return Rows(users[begins], events[begins], np.diff(begins, append=len(users)))


def batch_of(data: MovieLens, rows: Rows, max_events: int) -> Batch:
    """The batch of these rows, padded to the longest history and the most candidates among them.

    Args:
        max_events: what the model's history axis holds; of a longer history the most recent are kept.
    """
    lengths = np.minimum(rows.firsts - data.starts[rows.users], max_events)
    events, in_history = _grid(rows.firsts - lengths, lengths)
    candidates, real = _grid(rows.firsts, rows.counts)
    inputs = {
        "history_items": np.where(in_history, data.items[events], 0).astype(np.int64),
        "history_ratings": np.where(in_history, data.ratings[events], 0).astype(np.int64),
        **data.requests_inputs(rows.users, rows.firsts),
        **data.candidate_inputs(np.where(real, data.items[candidates], 0).astype(np.int64)),
    }
    return Batch(inputs, (real & (data.ratings[candidates] >= LIKED)).astype(np.float32), real)


def _grid(firsts: IntArray, counts: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
    """Runs of events as rows of a grid [R, longest run, at least 1], and where the grid is filled; else it holds 0."""
    columns = np.arange(max(1, counts.max()))
    real = columns < counts[:, None]
    return np.where(real, firsts[:, None] + columns, 0), real


def split_by_length(data: MovieLens, rows: Rows, max_events: int) -> Iterator[IntArray]:
    """The places of rows for one batch after another: rows of similar history length, few enough for the memory."""
    lengths = np.clip(rows.firsts - data.starts[rows.users], 1, max_events)
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        end = begin + 1
        widest = int(rows.counts[order[begin]])
        while end < len(order):
            widest = max(widest, int(rows.counts[order[end]]))
            candidates = (end - begin + 1) * widest
            if candidates > LARGEST_BATCH or candidates * lengths[order[end]] > MAX_TOKENS:
                break
            end += 1
        yield order[begin:end]
        begin = end
