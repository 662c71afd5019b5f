"""The requests of a workload: equal seeds make equal requests, and equal bytes in the files of perf_analyzer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cleave.builders.onnx_graph.random_inputs import draw_inputs
from cleave.builders.predict.arms import Arm
from cleave.builders.spec import Axis, Ranker
from cleave.clients.signature import ModelSignature
from cleave.perf.arms import RankRequest, Row, batch_of, rows_of
from cleave.perf.errors import PerfError
from cleave.perf.workload.lengths import Length
from cleave.perf.workload.workload import Point, Workload

USER_PREFIX = "bench"
"""The beginning of the ids of users that a workload makes up."""

DECIMALS = 3
"""The decimals of drawn floats: few, so that files are small."""

_USERS, _REQUESTS, _KNOWN, _NEW, _ARRIVALS = range(5)
"""Independent streams of random numbers of one seed."""


@dataclass(frozen=True)
class Traffic:
    """The requests of one measurement, in their order."""

    requests: tuple[RankRequest, ...]
    new: tuple[bool, ...]
    """Whether the user of each request has no summary when the measurement begins; each new user comes once."""

    @property
    def known_users(self) -> dict[str, RankRequest]:
        """A request of each user whose summary is kept when the measurement begins, by the user's id."""
        return {request.user_id: request for request, new in zip(self.requests, self.new, strict=True) if not new}

    @property
    def new_users(self) -> list[str]:
        return [request.user_id for request, new in zip(self.requests, self.new, strict=True) if new]

    @property
    def num_candidates(self) -> int:
        """The number of candidates of all requests together."""
        return sum(request.num_candidates for request in self.requests)

    @property
    def hit_rate(self) -> float:
        """The share of requests whose user's summary is kept."""
        return 1 - sum(self.new) / len(self.new)


def draw_traffic(workload: Workload, point: Point, ranker: Ranker, num_requests: int) -> Traffic:
    """The traffic of one measurement at a point.

    Exactly the share of the workload is known, spread at random; a known user is drawn by Zipf's law. Where all are
    known, a shorter measurement is the beginning of a longer one.
    """
    users, new = _users(workload, point, num_requests)
    requests = tuple(_request(workload.seed, point, ranker, user, place) for place, user in enumerate(users))
    return Traffic(requests, new)


def check_sizes(workload: Workload, point: Point, ranker: Ranker, num_requests: int) -> None:
    """Refuse a point with requests that are longer or shorter than the ranker accepts.

    Raises:
        PerfError: names the axis.
    """
    for place, user in enumerate(_users(workload, point, num_requests)[0]):
        _sizes(ranker, point, *_generators(workload.seed, user, place))


def _users(workload: Workload, point: Point, num_requests: int) -> tuple[list[int], tuple[bool, ...]]:
    """The number of the user of each request, and whether the user is new."""
    num_known = round(point.cached_share * num_requests)
    new = np.random.default_rng((workload.seed, _NEW)).permutation(np.arange(num_requests) >= num_known)
    ranks = np.arange(1, workload.users + 1)
    weights = ranks**-workload.zipf
    known = np.random.default_rng((workload.seed, _KNOWN)).choice(ranks, num_requests, p=weights / weights.sum())
    # A new user has a number behind those of all who come back.
    users = [workload.users + 1 + place if new[place] else int(known[place]) for place in range(num_requests)]
    return users, tuple(bool(each) for each in new)


def _request(seed: int, point: Point, ranker: Ranker, user: int, place: int) -> RankRequest:
    """A user has the same history in every request; candidates and request inputs are drawn for each request."""
    of_user, of_request = _generators(seed, user, place)
    sizes = _sizes(ranker, point, of_user, of_request)
    user_arrays = _drawn(ranker, sizes, of_user)
    request_arrays = _drawn(ranker, sizes, of_request)
    return RankRequest(
        {tensor.name: user_arrays[tensor.name] for tensor in ranker.user},
        {tensor.name: request_arrays[tensor.name] for tensor in ranker.request},
        {tensor.name: request_arrays[tensor.name] for tensor in ranker.candidate},
        f"{USER_PREFIX}-{user}",
    )


def _generators(seed: int, user: int, place: int) -> tuple[np.random.Generator, np.random.Generator]:
    return np.random.default_rng((seed, _USERS, user)), np.random.default_rng((seed, _REQUESTS, place))


def _sizes(
    ranker: Ranker, point: Point, of_user: np.random.Generator, of_request: np.random.Generator
) -> dict[str, int]:
    """The sizes of a request, which are drawn before its arrays."""
    sizes = ranker.sizes("opt")
    history = ranker.history_axis
    if history is not None:
        sizes[history.name] = _size(ranker, history, point.history, of_user)
    sizes[ranker.candidate_axis.name] = _size(ranker, ranker.candidate_axis, point.candidates, of_request)
    return sizes


def _size(ranker: Ranker, axis: Axis, length: Length, rng: np.random.Generator) -> int:
    size, least = length.draw(rng), max(axis.min, axis.min_real)
    if not least <= size <= axis.max:
        raise PerfError(
            f"workload: {axis.name}: expected {least} to {axis.max}, which {ranker.name} takes, got {size}; leave "
            "the model out with --models, or change the workload"
        )
    return size


def _drawn(ranker: Ranker, sizes: Mapping[str, int], rng: np.random.Generator) -> dict[str, Any]:
    arrays = draw_inputs(ranker, sizes, 1, rng)
    return {name: array[0].round(DECIMALS) if array.dtype.kind == "f" else array[0] for name, array in arrays.items()}


@dataclass(frozen=True)
class Messages:
    """The messages by which one arm sends a traffic."""

    file: Path
    batch: int
    """Rows of a message."""
    of_request: tuple[int, ...]
    """Messages of each user's request."""

    @property
    def count(self) -> int:
        return sum(self.of_request)


def write_messages(arm: Arm, signature: ModelSignature, requests: Sequence[RankRequest], file: Path) -> Messages:
    """Write the JSON file from which perf_analyzer sends these requests by this arm, one row after another."""
    batch = batch_of(arm, requests, signature.max_batch_size)
    counts = []
    with file.open("w") as opened:
        opened.write('{"data": [')
        for place, request in enumerate(requests):
            rows = rows_of(arm, signature, request, batch)
            counts.append(len(rows) // batch)
            opened.write(",\n" * (place > 0) + ",\n".join(json.dumps(_entry(row)) for row in rows))
        opened.write("]}\n")
    return Messages(file, batch, tuple(counts))


def _entry(row: Row) -> dict[str, Any]:
    """A row as perf_analyzer reads it: the shape of a single value is [1]."""
    return {
        name: {"content": _content(array), "shape": list(array.shape) or [1]} for name, array in sorted(row.items())
    }


def _content(array: Any) -> list[Any]:
    if array.dtype.hasobject:
        return [value.decode() for value in array.reshape(-1).tolist()]
    if array.dtype.kind == "f":
        return [round(value, DECIMALS) for value in array.reshape(-1).tolist()]
    content: list[Any] = array.reshape(-1).tolist()
    return content


def arrivals_us(workload: Workload, rate_per_s: float, messages: Messages) -> list[int]:
    """Microseconds to wait before each message: requests arrive as a Poisson process, the messages of one at once."""
    rng = np.random.default_rng((workload.seed, _ARRIVALS))
    waits = []
    for count in messages.of_request:
        waits += [max(1, round(rng.exponential(1e6 / rate_per_s))), *[0] * (count - 1)]
    return waits
