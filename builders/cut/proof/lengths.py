"""Lengths of an axis that a proof tries, and who of them share a batch."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from cleave.builders.spec import Axis

ALL_UP_TO = 40
"""Lengths up to here cost next to nothing, so that none is left out."""
FAR_BEYOND = 2048
"""Lists up to here are tried where the axis ends before."""


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


def anywhere(axis: Axis, rng: np.random.Generator) -> int:
    """One length, small ones as likely as large ones."""
    least = max(axis.min_real, 1)
    return int(np.exp(rng.uniform(np.log(least), np.log(axis.max + 1))))
