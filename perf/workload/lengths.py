"""Lengths of histories and of candidate lists: a number, or a distribution to draw from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from cleave.perf.errors import PerfError


class Length(Protocol):
    """A length that is drawn for each user or request."""

    def draw(self, rng: np.random.Generator) -> int: ...

    def typical(self) -> int:
        """The number that stands for the distribution in plots."""
        ...


@dataclass(frozen=True)
class Fixed:
    """One number, every time."""

    value: int

    def draw(self, rng: np.random.Generator) -> int:
        return self.value

    def typical(self) -> int:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:,}"


@dataclass(frozen=True)
class Lognormal:
    """Many short ones and a few long ones, as the histories of users are; at most `max`."""

    kind: ClassVar[str] = "lognormal"
    median: float
    sigma: float
    max: int

    def draw(self, rng: np.random.Generator) -> int:
        return int(np.clip(round(rng.lognormal(np.log(self.median), self.sigma)), 1, self.max))

    def typical(self) -> int:
        return round(self.median)

    def __str__(self) -> str:
        return f"lognormal, median {self.median:,.0f}, sigma {self.sigma:g}, at most {self.max:,}"


@dataclass(frozen=True)
class Uniform:
    """Every number from `min` to `max`, with equal probability."""

    kind: ClassVar[str] = "uniform"
    min: int
    max: int

    def draw(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.min, self.max + 1))

    def typical(self) -> int:
        return (self.min + self.max) // 2

    def __str__(self) -> str:
        return f"{self.min:,} to {self.max:,}"


@dataclass(frozen=True)
class MovieLensUser:
    """The number of ratings of a user of MovieLens-100k."""

    kind: ClassVar[str] = "movielens"

    def draw(self, rng: np.random.Generator) -> int:
        return int(rng.choice(_ratings_of_users()))

    def typical(self) -> int:
        return int(np.median(_ratings_of_users()))

    def __str__(self) -> str:
        return "as in MovieLens-100k"


@cache
def _ratings_of_users() -> NDArray[np.int64]:
    from cleave.builders.training import data  # noqa: PLC0415 - polars is slow to import

    return np.diff(data.load().starts)


_KINDS: dict[str, Callable[..., Length]] = {kind.kind: kind for kind in (Lognormal, Uniform, MovieLensUser)}


def length_from_toml(where: str, value: object) -> Length:
    """A whole number, or a table such as `{distribution = "uniform", min = 10, max = 20}`.

    Raises:
        PerfError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return Fixed(value)
    if isinstance(value, Mapping) and value.get("distribution") in _KINDS:
        kind = _KINDS[value["distribution"]]
        given: dict[str, Any] = {key: each for key, each in value.items() if key != "distribution"}
        try:
            length = kind(**given)
            length.draw(np.random.default_rng(0))
        except (TypeError, ValueError) as error:
            raise PerfError(f"{where}: {value['distribution']}: {error}; correct its numbers") from error
        return length
    raise PerfError(
        f"{where}: expected a whole number of at least 1, or a distribution ({', '.join(_KINDS)}), got {value!r}; "
        "correct it"
    )
