"""Which users a proof tries: at every length in question, with every mixture of axes, and at the largest sizes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from cleave.builders.cut.proof.cases import (
    AT_RANDOM,
    BELOW,
    BUCKETS,
    CONSTANTS,
    LARGEST,
    REPEATED,
    SMALL,
    TOGETHER,
    Step,
    Users,
)
from cleave.builders.cut.proof.lengths import ALL_UP_TO, anywhere, around, grouped, shortest, spread
from cleave.builders.cut.proof.subject import Subject
from cleave.builders.cut.proof.users import Lengths, bucket_sizes
from cleave.builders.spec import Axis

FEW_CANDIDATES = 4
"""Of users whose histories are in question."""
USERS_OF_A_BATCH = 6
MOST_LARGEST = 2
"""Times the work of one user with everything at its largest, which one batch may take."""
NUM_SAME_LENGTHS = 6
"""Batches of short users of the same lengths, as many again with rows that are alike, and so many longer users."""
NUM_RANDOM_LENGTHS = 24
NUM_RANDOM_USERS = 24
"""With every axis drawn."""
FEWEST_USERS = 3
"""That see each other or do not, where users have no axes."""
MOST_COMBINATIONS = 27
"""Of empty, partial and full axes: all of three axes."""


class UserPlan:
    """The users of a proof."""

    def __init__(self, subject: Subject, rng: np.random.Generator) -> None:
        self.subject = subject
        self.ranker = subject.ranker
        self.rng = rng
        self.rows = tuple(axis for axis in self.ranker.axes if axis != self.ranker.candidate_axis)
        """Axes of users and requests, along which users differ in one batch."""

    def steps(self) -> Iterator[Step]:
        for axis in self.rows:
            yield from self.one_axis(axis)
            yield from self.same_lengths(axis)
        yield from self.axes_together()
        yield from self.largest()
        yield from self.drawn()

    def one_axis(self, axis: Axis) -> Iterator[Step]:
        """One axis at every length in question, the others short."""
        edges = around(axis.buckets, axis)
        just_below = {bucket - 1 for bucket in axis.buckets if bucket > SMALL}
        by_kind = {
            BUCKETS: (edges - just_below) | shortest(axis),
            BELOW: just_below,
            CONSTANTS: around(self.subject.constants, axis),
            AT_RANDOM: set(range(ALL_UP_TO)) | set(spread(axis, NUM_RANDOM_LENGTHS, self.rng)),
        }
        seen: set[int] = set()
        for kind, lengths in by_kind.items():
            allowed = sorted(length for length in lengths - seen if axis.min_real <= length <= axis.max)
            seen.update(allowed)
            for group in grouped(axis, allowed, self.users_of_a_batch):
                beside = [axis.min_real] if kind == BUCKETS and group[-1] > SMALL else []
                users = tuple({**self.short(), axis.name: length} for length in beside + group)
                yield self.users(kind, users, self.paddings(axis, users), required=kind == BUCKETS)

    def same_lengths(self, axis: Axis) -> Iterator[Step]:
        """Many users of few lengths, as padding may change the scores of some users only; then longer ones."""
        small = [max(axis.min, axis.min_real, 1) + more for more in range(USERS_OF_A_BATCH)]
        for seed, alike in enumerate((False, True) * NUM_SAME_LENGTHS):
            users = tuple({**self.short(), axis.name: min(axis.max, length)} for length in small)
            yield self.users(REPEATED, users, (self.served(users),), True, seed + 1, alike)
        for length in spread(axis, NUM_SAME_LENGTHS, self.rng):
            users = ({**self.short(), axis.name: max(axis.min_real, length)},)
            yield self.users(REPEATED, users, (self.served(users),), required=False, alike=True)

    def users_of_a_batch(self, axis: Axis, bucket: int) -> int:
        """As many long users as take about the memory of one with everything at its largest, but never one alone."""
        alone = self.subject.work({**self.served([self.short()]), axis.name: bucket})
        most = MOST_LARGEST * self.subject.work(self.ranker.sizes("max")) / alone
        return int(min(USERS_OF_A_BATCH, max(2, most)))

    def paddings(self, axis: Axis, users: Sequence[Lengths]) -> tuple[Lengths, ...]:
        """As they are served; also without padding for the longest, by one row, and to the next bucket."""
        served = self.served(users)
        longest = max(axis.min, *(user[axis.name] for user in users))
        bucket = served[axis.name]
        wanted = {bucket, longest, min(longest + 1, axis.max), axis.bucket(min(bucket + 1, axis.max))}
        if bucket > SMALL:
            wanted = {bucket}
        return tuple({**served, axis.name: size} for size in sorted(wanted))

    def axes_together(self) -> Iterator[Step]:
        """Every combination of empty, partly filled and full axes, in small buckets and in batches of all kinds."""
        ends = [self.ends(axis) for axis in self.rows]
        combinations = list(itertools.product(*ends))
        if len(combinations) > MOST_COMBINATIONS:
            combinations = [combinations[i] for i in self.rng.permutation(len(combinations))[:MOST_COMBINATIONS]]
        combinations *= -(-FEWEST_USERS // len(combinations))
        users = [self.user(lengths, int(self.rng.integers(1, FEW_CANDIDATES + 1))) for lengths in combinations]
        for start in range(0, len(users), USERS_OF_A_BATCH):
            batch = users[start : start + USERS_OF_A_BATCH]
            yield self.users(TOGETHER, batch, (self.served(batch),), required=True)

    def ends(self, axis: Axis) -> tuple[int, ...]:
        """As few rows as possible, some, and as many as their bucket holds."""
        bucket = axis.bucket(axis.min_real)
        partial = int(self.rng.integers(max(1, axis.min_real), bucket + 1))
        return tuple(dict.fromkeys((axis.min_real, partial, bucket)))

    def largest(self) -> Iterator[Step]:
        """The longest list of a user with all axes all but full; then one with half of both."""
        sizes, count = self.ranker.sizes("max"), self.ranker.candidate_axis.max
        nearly = self.user([max(axis.min_real, axis.max - 1) for axis in self.rows], count)
        yield self.users(LARGEST, (nearly,), (sizes,), required=True)
        half = self.user([max(axis.min_real, axis.max // 2) for axis in self.rows], count // 2 + 1)
        yield self.users(LARGEST, (half,), (sizes,), required=False)
        if len(self.rows) > 1:
            full = self.user([axis.max for axis in self.rows], FEW_CANDIDATES)
            least = self.user([axis.min_real for axis in self.rows], FEW_CANDIDATES)
            yield self.users(LARGEST, (full, least), (self.served((full,)),), required=True)

    def drawn(self) -> Iterator[Step]:
        """Users whose every axis is drawn, the list among them."""
        for _ in range(NUM_RANDOM_USERS):
            lengths = [anywhere(axis, self.rng) for axis in self.rows]
            user = self.user(lengths, anywhere(self.ranker.candidate_axis, self.rng))
            yield self.users(AT_RANDOM, (user,), (self.served((user,)),), required=False)

    def users(
        self,
        kind: str,
        users: Sequence[Lengths],
        paddings: tuple[Lengths, ...],
        required: bool,
        seed: int = 0,
        alike: bool = False,
    ) -> Step:
        work = sum(self.subject.work(sizes) for sizes in paddings) * len(users)
        return Step(kind, Users(tuple(users), paddings, seed, alike), required, work)

    def short(self) -> dict[str, int]:
        """A user whose axes are partly filled in their smallest buckets."""
        lengths = [self.ends(axis)[1] for axis in self.rows]
        return self.user(lengths, int(self.rng.integers(1, FEW_CANDIDATES + 1)))

    def user(self, lengths: Sequence[int], candidates: int) -> dict[str, int]:
        axis = self.ranker.candidate_axis
        names = [each.name for each in self.rows]
        return {**dict(zip(names, lengths, strict=True)), axis.name: min(axis.max, candidates)}

    def served(self, users: Sequence[Lengths]) -> dict[str, int]:
        return bucket_sizes(self.ranker, users)
