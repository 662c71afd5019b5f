"""What a proof tries: the users and lists at which a model that is wrong somewhere is most likely to show it.

A model reads padding, or other candidates, from some size on, up to some size, or at sizes of some form. What it goes
by is a number of its own, or the size that it was padded to. So lengths are tried on both sides of every bucket and of
every number that the graph is made of, and some that are neither.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cleave.builders.cut.proof.subject import Subject
from cleave.builders.cut.proof.users import Lengths
from cleave.builders.onnx_graph.random_inputs import AnyArray
from cleave.builders.spec import Axis, Ranker

SMALL = 64
"""Buckets up to this are also padded otherwise than clients do, which costs next to nothing."""
FEW_CANDIDATES = 4
"""Of users whose histories are in question."""
USERS_OF_A_BATCH = 6
MOST_LARGEST = 2
"""Times the work of one user with everything at its largest, which one batch may take."""
NUM_SAME_LENGTHS = 6
"""Batches of short users of the same lengths, as many again with rows that are alike, and so many longer users."""
NUM_RANDOM_LENGTHS = 24
NUM_RANDOM_LISTS = 24
NUM_RANDOM_USERS = 24
"""With every axis drawn."""
FAR_BEYOND = 2048
"""Lists up to here are tried where the axis ends before."""
ALL_LENGTHS_UP_TO = 40
"""Lengths up to here cost next to nothing, so that none is left out."""
FEWEST_USERS = 3
"""That see each other or do not, where users have no axes."""
MOST_COMBINATIONS = 27
"""Of empty, partial and full axes: all of three axes."""


@dataclass(frozen=True)
class Users:
    """Users in one batch, served at each of some sizes; `seed` and `alike` are those of `draw_user`."""

    lengths: tuple[Lengths, ...]
    paddings: tuple[Lengths, ...]
    seed: int = 0
    alike: bool = False


@dataclass(frozen=True, eq=False)
class CandidateList:
    """Candidates of a pool, by their place there and in this order, scored together for one user."""

    order: AnyArray


@dataclass(frozen=True)
class Step:
    """A part of a proof; those that are not `required` are left out where the time is up."""

    kind: str
    case: Users | CandidateList
    required: bool
    work: float


BUCKETS = "around buckets"
BELOW = "just below buckets"
CONSTANTS = "around numbers of the graph"
AT_RANDOM = "drawn"
TOGETHER = "axes together"
REPEATED = "of equal lengths"
LARGEST = "the largest sizes"
LONGER = "lists longer than the axis"
LISTS = {BUCKETS: "lists around buckets", CONSTANTS: "lists around numbers of the graph", AT_RANDOM: "lists drawn"}


def plan_of(subject: Subject, seed: int) -> list[Step]:
    """The steps of a proof, the cheap ones first.

    Users of all kinds in small batches are the very first: they show most, and lists are compared by way of batches.
    """
    planner = _Planner(subject, np.random.default_rng(seed))
    return sorted(planner.steps(), key=lambda step: (step.kind != TOGETHER, step.work))


class _Planner:
    def __init__(self, subject: Subject, rng: np.random.Generator) -> None:
        self.subject = subject
        self.ranker: Ranker = subject.ranker
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
        yield from self.lists()

    def one_axis(self, axis: Axis) -> Iterator[Step]:
        """One axis at every length in question, the others short."""
        edges = around(axis.buckets, axis)
        just_below = {bucket - 1 for bucket in axis.buckets if bucket > SMALL}
        by_kind = {
            BUCKETS: (edges - just_below) | shortest(axis),
            BELOW: just_below,
            CONSTANTS: around(self.subject.constants, axis),
            AT_RANDOM: set(range(ALL_LENGTHS_UP_TO)) | set(spread(axis, NUM_RANDOM_LENGTHS, self.rng)),
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
        for batch in batches(users, USERS_OF_A_BATCH):
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
            lengths = [self.between(axis, axis.max) for axis in self.rows]
            user = self.user(lengths, self.between(self.ranker.candidate_axis, self.ranker.candidate_axis.max))
            yield self.users(AT_RANDOM, (user,), (self.served((user,)),), required=False)

    def between(self, axis: Axis, most: int) -> int:
        """A length between the fewest and `most`, small ones as likely as large ones."""
        least = max(axis.min_real, 1)
        return int(np.exp(self.rng.uniform(np.log(least), np.log(most + 1))))

    def lists(self) -> Iterator[Step]:
        """Lists cut at every size in question, from the front of the pool and from its middle, and in other orders."""
        axis = self.ranker.candidate_axis
        by_kind = {
            BUCKETS: around(axis.buckets, axis) | {1, 2},
            CONSTANTS: around(self.subject.constants, axis),
            AT_RANDOM: set(range(1, ALL_LENGTHS_UP_TO)) | set(spread(axis, NUM_RANDOM_LISTS, self.rng)),
        }
        seen: set[int] = set()
        for kind, sizes in by_kind.items():
            allowed = sorted(size for size in sizes - seen if 0 < size <= axis.max)
            seen.update(allowed)
            for size in allowed:
                start = 0 if kind == BUCKETS else int(self.rng.integers(0, axis.max - size + 1))
                order = np.arange(start, start + size)
                yield self.list(LISTS[kind], order, required=kind == BUCKETS)
        for size in dict.fromkeys((min(axis.max, 17), axis.bucket(axis.opt), axis.max)):
            yield self.list(LISTS[BUCKETS], np.arange(size)[::-1], required=True)
            yield self.list(LISTS[AT_RANDOM], self.rng.permutation(size), required=True)
            yield self.list(LISTS[AT_RANDOM], np.zeros(size, np.int64), required=True)
            yield self.list(LISTS[AT_RANDOM], self.rng.integers(0, size, size) // 2, required=False)
        most = longest_list(axis)
        for size in sorted({axis.max + 1, 2 * axis.max} | around(self.subject.constants, axis, axis.max + 2, most)):
            yield self.list(LONGER, np.arange(size), required=size == axis.max + 1)

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

    def list(self, kind: str, order: AnyArray, required: bool) -> Step:
        return Step(kind, CandidateList(order), required, self.subject.work(list_user(self.ranker, len(order))))

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


def bucket_sizes(ranker: Ranker, users: Sequence[Lengths]) -> dict[str, int]:
    """The sizes that a client pads these users to, where they share a batch."""
    return {axis.name: axis.bucket(max(user[axis.name] for user in users)) for axis in ranker.axes}


def list_user(ranker: Ranker, candidates: int) -> dict[str, int]:
    """The lengths of the user for whom lists are scored: some rows along every axis, with padding beside them."""
    lengths = {axis.name: max(axis.min_real, min(axis.max, axis.buckets[0] // 2 + 1)) for axis in ranker.axes}
    return {**lengths, ranker.candidate_axis.name: candidates}


def shortest(axis: Axis) -> set[int]:
    """The fewest rows, and one and two more."""
    return {axis.min_real, axis.min_real + 1, axis.min_real + 2}


def longest_list(axis: Axis) -> int:
    """More candidates than this are not tried: a client sends longer lists than the axis holds in several requests."""
    return max(2 * axis.max, FAR_BEYOND)


def around(numbers: Iterable[int], axis: Axis, least: int = 0, most: int | None = None) -> set[int]:
    """Each number that the axis holds, one less and one more; or those of them from `least` to `most`."""
    sizes = {each for number in numbers for each in (number - 1, number, number + 1)}
    return {size for size in sizes if least <= size <= (axis.max if most is None else most)}


def spread(axis: Axis, count: int, rng: np.random.Generator) -> list[int]:
    """`count` lengths, one of each of as many equal parts of the axis."""
    edges = np.linspace(1, axis.max + 1, count + 1)
    return [int(rng.uniform(low, high)) for low, high in itertools.pairwise(edges)]


def grouped(axis: Axis, lengths: Iterable[int], most: Callable[[Axis, int], int]) -> Iterator[list[int]]:
    """Lengths of one bucket, up to `most` of it together: short and long ones in one batch."""
    of_bucket: defaultdict[int, list[int]] = defaultdict(list)
    for length in lengths:
        of_bucket[axis.bucket(length)].append(length)
    for bucket, group in of_bucket.items():
        num_batches = -(-len(group) // most(axis, bucket))
        yield from (group[start::num_batches] for start in range(num_batches))


def batches(users: Sequence[Lengths], most: int) -> Iterator[tuple[Lengths, ...]]:
    """`users` in their order, up to `most` together."""
    for start in range(0, len(users), most):
        yield tuple(users[start : start + most])
