"""Which lists of candidates a proof tries: cut at every size in question, in other orders, and longer than the axis."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cleave.builders.cut.proof.cases import AT_RANDOM, BUCKETS, CONSTANTS, LONGER, CandidateList, Step
from cleave.builders.cut.proof.lengths import ALL_UP_TO, around, longest_list, spread
from cleave.builders.cut.proof.subject import Subject
from cleave.builders.onnx_graph.random_inputs import AnyArray
from cleave.builders.spec import Ranker

NUM_RANDOM_LISTS = 24


def lists_of(subject: Subject, rng: np.random.Generator) -> Iterator[Step]:
    """Lists cut at every size in question, from the front of the pool and from its middle, and in other orders."""
    axis = subject.ranker.candidate_axis

    def step(kind: str, order: AnyArray, required: bool) -> Step:
        return Step(kind, CandidateList(order), required, subject.work(lengths_of_list(subject.ranker, len(order))))

    by_kind = {
        BUCKETS: around(axis.buckets, axis) | {1, 2},
        CONSTANTS: around(subject.constants, axis),
        AT_RANDOM: set(range(1, ALL_UP_TO)) | set(spread(axis, NUM_RANDOM_LISTS, rng)),
    }
    seen: set[int] = set()
    for kind, sizes in by_kind.items():
        allowed = sorted(size for size in sizes - seen if 0 < size <= axis.max)
        seen.update(allowed)
        for size in allowed:
            start = 0 if kind == BUCKETS else int(rng.integers(0, axis.max - size + 1))
            order = np.arange(start, start + size)
            yield step(kind, order, required=kind == BUCKETS)
    for size in dict.fromkeys((min(axis.max, 17), axis.bucket(axis.opt), axis.max)):
        yield step(BUCKETS, np.arange(size)[::-1], required=True)
        yield step(AT_RANDOM, rng.permutation(size), required=True)
        yield step(AT_RANDOM, np.zeros(size, np.int64), required=True)
        yield step(AT_RANDOM, rng.integers(0, size, size) // 2, required=False)
    most = longest_list(axis)
    for size in sorted({axis.max + 1, 2 * axis.max} | around(subject.constants, axis, axis.max + 2, most)):
        yield step(LONGER, np.arange(size), required=size == axis.max + 1)


def lengths_of_list(ranker: Ranker, candidates: int) -> dict[str, int]:
    """The lengths of the user for whom lists are scored: some rows along every axis, with padding beside them."""
    lengths = {axis.name: max(axis.min_real, min(axis.max, axis.buckets[0] // 2 + 1)) for axis in ranker.axes}
    return {**lengths, ranker.candidate_axis.name: candidates}
