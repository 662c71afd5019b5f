"""Values that requests may hold and random ones seldom are: large, negative, and on the edges of buckets.

Ids of 64 bits, times in seconds and milliseconds, powers of two and ten with their neighbours, whole and half numbers,
numbers a thousand times as large as others. A graph that rounds, wraps around or compares otherwise than its module
shows it there.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cleave.builders.spec import Tensor

POWERS = np.array(sorted({base**power for base, most in ((2, 63), (10, 19)) for power in range(most)}))
NEIGHBOURS = np.unique(np.concatenate([POWERS - 1, POWERS, POWERS + 1]))
NOW_S, OLDEST_S = 1_700_000_000, 1 << 30
"""Seconds since 1970 in November 2023, and how many before that others are."""
Kind = Literal["small", "edges", "seconds", "milliseconds", "any"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What integers are that nothing is known of: counts and ids, powers of two and ten, times, and hashes."""
SHARE_OF_EDGES = 0.5
MOST_DIGITS = 3
"""By which floats are larger or smaller than is usual."""


def draw_unusual(tensor: Tensor, shape: tuple[int, ...], kind: int, rng: np.random.Generator) -> NDArray[Any]:
    """Values of a tensor, within its bounds if it has some.

    Args:
        kind: a place in `KINDS`, for integers without bounds; the same for all inputs of a request, so that times are
            near each other.
    """
    if tensor.dtype == "bool":
        drawn: NDArray[Any] = rng.integers(0, 2, shape)
    elif tensor.is_integer:
        drawn = _integers(tensor, shape, kind, rng)
    else:
        drawn = _floats(tensor, shape, rng)
    return drawn.astype(tensor.numpy_dtype)


def _integers(tensor: Tensor, shape: tuple[int, ...], kind: int, rng: np.random.Generator) -> NDArray[np.int64]:
    info = np.iinfo(tensor.dtype)
    low, high = int(info.min), int(info.max)
    # What others are subtracted from, as the time of a request, is at times the same: then differences are on edges.
    is_origin = len(shape) == 1 and rng.random() < SHARE_OF_EDGES
    if tensor.high is None:
        return np.clip(_integers_of_kind(KINDS[kind], shape, is_origin, rng), low, high)
    low, high = int(tensor.low or 0), int(tensor.high) - 1
    near = np.concatenate([-NEIGHBOURS, NEIGHBOURS, low + NEIGHBOURS, high - NEIGHBOURS])
    edges = near[(low <= near) & (near <= high)]
    drawn = np.where(
        rng.random(shape) < SHARE_OF_EDGES, rng.choice(edges, shape), rng.integers(low, high, shape, endpoint=True)
    )
    return np.full(shape, high) if is_origin else drawn


def _integers_of_kind(
    kind: Kind, shape: tuple[int, ...], is_origin: bool, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Of an input of which nothing is known; those of an origin are 0, or now."""
    if kind == "any":
        return rng.integers(-(2**63), 2**63 - 1, shape) >> rng.integers(0, 63, shape)
    if kind == "small":
        return rng.integers(0, 100, shape)
    distances = np.where(rng.random(shape) < 0.5, rng.choice(POWERS, shape), rng.choice(NEIGHBOURS, shape))
    if kind == "edges":
        return np.where(is_origin, 0, distances * rng.choice([-1, 1], shape))
    is_edge = (rng.random(shape) < SHARE_OF_EDGES) & (distances < OLDEST_S)
    ages_s = np.where(is_edge, distances, rng.integers(0, OLDEST_S, shape))
    return (NOW_S - np.where(is_origin, 0, ages_s)) * (1000 if kind == "milliseconds" else 1)


def _floats(tensor: Tensor, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    drawn = rng.standard_normal(shape) * 10.0 ** rng.integers(-MOST_DIGITS, MOST_DIGITS + 1)
    whole, powers = np.rint(drawn), np.sign(drawn) * 2.0 ** np.rint(np.log2(np.abs(drawn) + 1e-3))
    chosen: NDArray[np.float64] = np.choose(rng.integers(0, 5, shape), [drawn, whole, whole + 0.5, powers, 0 * drawn])
    if tensor.low is None or tensor.high is None:
        return chosen
    between = np.where(rng.random(shape) < SHARE_OF_EDGES, tensor.low, rng.uniform(tensor.low, tensor.high, shape))
    return np.where((tensor.low <= chosen) & (chosen <= tensor.high), chosen, between)
