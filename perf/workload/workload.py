"""Workloads, typed: what is sent to the arms, how often, and which thresholds they must meet."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from cleave.perf.arms import TOLERANCE
from cleave.perf.errors import PerfError
from cleave.perf.workload.lengths import Length, length_from_toml
from cleave.perf.workload.thresholds import Threshold, threshold_from_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parents[1] / "workloads"


class Load(NamedTuple):
    """How requests arrive: `concurrency` at a time, or as a Poisson process of `rate_per_s`."""

    concurrency: int | None = 1
    rate_per_s: float | None = None

    def __str__(self) -> str:
        return f"{self.concurrency} at a time" if self.rate_per_s is None else f"{self.rate_per_s:g} a second"


class Point(NamedTuple):
    """One combination of the values that a workload lists."""

    history: Length
    candidates: Length
    cached_share: float
    load: Load

    def __str__(self) -> str:
        return point_text(str(self.history), str(self.candidates), self.cached_share, self.load)


def point_text(histories: str, candidate_lists: str, cached_share: float, load: Load) -> str:
    """A point in words: `n = 256, m = 128, 100% cached, 1 at a time`."""
    return f"n = {histories}, m = {candidate_lists}, {cached_share:.0%} cached, {load}"


@dataclass(frozen=True)
class Workload:
    """What one run does; every field but `name` and `content` is a key of its TOML file.

    The points of a run are the product of `history`, `candidates`, `cached_share` and the loads, in this order; the
    last point is the one whose figures stand for a model.
    """

    name: str
    description: str
    seed: int
    models: tuple[str, ...]
    arms: tuple[str, ...]
    history: tuple[Length, ...]
    """Events of a user: numbers or distributions."""
    candidates: tuple[Length, ...]
    sizes: Mapping[str, str] = field(default_factory=dict)
    """Other sizes than a zoo model's own, by model, as given to `cleave build --size`."""
    rounds: int = 3
    """Measurements of every arm at every point."""
    requests: Mapping[str, int] = field(default_factory=dict)
    """Requests of a measurement, by arm; `default` is for the arms that are not named."""
    measured_candidates: int | None = None
    """How many candidates of a request `per_candidate` sends; its latency is scaled in proportion. None for all."""
    users: int = 100
    """The number of users who come back, and whose summaries may be kept."""
    zipf: float = 1.0
    """User k comes with a probability in proportion to k to the power of -zipf."""
    cached_share: tuple[float, ...] = (1.0,)
    """The share of requests whose user has a summary when the measurement begins; the other users come once."""
    concurrency: tuple[int, ...] = ()
    rate_per_s: tuple[float, ...] = ()
    tolerance: float = TOLERANCE
    """The largest difference between the scores of two arms."""
    thresholds: tuple[Threshold, ...] = ()
    content: Mapping[str, Any] = field(default_factory=dict)
    """The content of its file."""

    def points(self) -> Iterator[Point]:
        """Every combination; the last one stands for the model."""
        loads = [Load(concurrency=count) for count in self.concurrency]
        loads += [Load(None, rate) for rate in self.rate_per_s]
        for combination in itertools.product(self.history, self.candidates, self.cached_share, loads or [Load()]):
            yield Point(*combination)

    def with_(
        self,
        models: Sequence[str] | None = None,
        size: str = "",
        arms: Sequence[str] | None = None,
        rounds: int | None = None,
    ) -> Workload:
        """This workload with other models, sizes of all of them, arms or rounds, where given.

        Thresholds on arms that are not measured are dropped.

        Raises:
            PerfError: there are no rounds.
        """
        given = {"models": models and list(models), "arms": arms and list(arms), "rounds": rounds}
        content = {**self.content, **{key: value for key, value in given.items() if value is not None}}
        if size:
            content["sizes"] = dict.fromkeys(content["models"], size)
        changed = workload_from_dict(self.name, content)
        kept = tuple(each for each in changed.thresholds if {each.arm, each.other or each.arm} <= set(changed.arms))
        return replace(changed, thresholds=kept)

    def requests_of(self, arm: str) -> int:
        """The number of requests of one measurement of an arm."""
        return self.requests.get(arm, self.requests["default"])


def workload_names() -> list[str]:
    """The workloads that come with cleave."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load_workload(name: str) -> Workload:
    """The workload that is called so, or that a TOML file describes.

    Raises:
        PerfError: there is none, or the file does not describe a workload.
    """
    file = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        content = tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise PerfError(
            f"workload {name!r}: expected one of {', '.join(workload_names())}, or a TOML file; correct the name"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PerfError(f"workload {str(file)!r}: expected TOML, got: {error}; correct the file") from error
    return workload_from_dict(file.stem, content)


def workload_from_dict(name: str, content: Mapping[str, Any]) -> Workload:
    """The workload that the content of a file describes.

    Raises:
        PerfError: a key is unknown or missing, or a value is of another type or out of its bounds.
    """
    where = f"workload {name!r}"
    known = {entry.name for entry in fields(Workload)} - {"name", "content"}
    for key in content:
        if key not in known:
            raise PerfError(f"{where}: {key}: expected one of {', '.join(sorted(known))}; correct the key")
    for key in ("description", "seed", "models", "arms", "history", "candidates", "requests"):
        if key not in content:
            raise PerfError(f"{where}: {key}: expected a value, got none; add it")
    given = {key: _READERS[key](f"{where}: {key}", value) for key, value in content.items()}
    if "default" not in given["requests"]:
        raise PerfError(f"{where}: requests: expected an entry `default`, got none; add it")
    return Workload(name=name, content=content, **given)


def _wrong(where: str, expected: str, got: object) -> PerfError:
    return PerfError(f"{where}: expected {expected}, got {got!r}; correct it")


def _number(least: float, whole: bool = False, most: float = float("inf")) -> Any:
    kind = f"a {'whole ' if whole else ''}number of at least {least:g}" + f" and at most {most:g}" * (most < 1e9)

    def read(where: str, value: object) -> float:
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not fits or not least <= value <= most:  # type: ignore[operator]
            raise _wrong(where, kind, value)
        return value  # type: ignore[return-value]

    return read


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(where, "a text", value)
    return value


def _list_of(read: Any, empty: bool = False) -> Any:
    def read_list(where: str, value: object) -> tuple[Any, ...]:
        values: Sequence[object] = value if isinstance(value, list) else [value]
        if not values and not empty:
            raise _wrong(where, "at least one value", value)
        return tuple(read(where, each) for each in values)

    return read_list


def _table_of(read: Any) -> Any:
    def read_table(where: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(where, "a table", value)
        return {key: read(f"{where}.{key}", each) for key, each in value.items()}

    return read_table


_READERS = {
    "description": _text,
    "seed": _number(0, whole=True),
    "models": _list_of(_text),
    "arms": _list_of(_text),
    "history": _list_of(length_from_toml),
    "candidates": _list_of(length_from_toml),
    "sizes": _table_of(_text),
    "rounds": _number(1, whole=True),
    "requests": _table_of(_number(1, whole=True)),
    "measured_candidates": _number(1, whole=True),
    "users": _number(1, whole=True),
    "zipf": _number(0),
    "cached_share": _list_of(_number(0, most=1)),
    "concurrency": _list_of(_number(1, whole=True)),
    "rate_per_s": _list_of(_number(1e-6)),
    "tolerance": _number(0),
    "thresholds": _list_of(threshold_from_text, empty=True),
}
