"""How each arm sends a request: as the rows of a batch, through a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleave.builders.names import USER_ID
from cleave.builders.predict.arms import ARMS, PER_CANDIDATE_ROWS, Arm, Sent
from cleave.builders.spec import Ranker
from cleave.clients import RankerClient
from cleave.clients.padding import padded, requests_from_arrays, slices
from cleave.clients.signature import ModelSignature
from cleave.clients.validation import sizes_of
from cleave.perf.errors import PerfError

Array = NDArray[Any]
Row = dict[str, Array]
"""The inputs of one row of a batch, by name, without the batch axis."""

DEADLINE_S = 600.0
"""The seconds after which any request of a measurement fails."""
TOLERANCE = 1e-4
"""The largest difference between the scores of two arms in float32, which may add in different orders."""
PER_CANDIDATE_ELEMENTS = 1 << 18
"""The most elements of a user input in one batch of `PER_CANDIDATE_ROWS` rows or fewer: for histories of more than
16,384 events a batch has fewer rows."""


@dataclass(frozen=True)
class RankRequest:
    """The request to rank candidates for one user.

    Args:
        history: the user inputs by name, without the batch axis: [events, ...].
        request: the request inputs by name, without the batch axis.
        candidates: the candidate inputs by name, [candidates, ...].
        user_id: the name by which a summary of the user is kept.
    """

    history: Mapping[str, Array]
    request: Mapping[str, Array]
    candidates: Mapping[str, Array]
    user_id: str = "perf"

    @property
    def num_candidates(self) -> int:
        return len(next(iter(self.candidates.values())))

    @property
    def num_events(self) -> int:
        """The length of the history; 0 for a model without one."""
        return max((len(array) for array in self.history.values() if array.ndim), default=0)

    def last_events(self, count: int) -> RankRequest:
        """The request of another user, whose history is the last `count` events of this one."""
        fewer = {name: array[-count:] if array.ndim else array for name, array in self.history.items()}
        return RankRequest(fewer, self.request, self.candidates, f"{self.user_id}-{count}")

    def first_candidates(self, count: int) -> RankRequest:
        """The same request with the first `count` candidates."""
        fewer = {name: array[:count] for name, array in self.candidates.items()}
        return RankRequest(self.history, self.request, fewer, self.user_id)


def request_from_arrays(ranker: Ranker, arrays: Mapping[str, Array]) -> RankRequest:
    """The request that consists of these inputs, which have no batch axis, by their roles in the ranker."""
    user, request, candidates = (
        {tensor.name: arrays[tensor.name] for tensor in tensors}
        for tensors in (ranker.user, ranker.request, ranker.candidate)
    )
    return RankRequest(user, request, candidates)


def _one_row(signature: ModelSignature, request: RankRequest, batch: int = 1) -> list[Row]:
    """One row with all candidates, or several where they are more than the model takes in one."""
    arrays = {
        name: np.asarray(array, signature.inputs[name].dtype)
        for name, array in {**request.history, **request.request, **request.candidates}.items()
    }
    batches = requests_from_arrays(signature, arrays, slices(signature, sizes_of(signature, arrays)))
    return [{name: array[0] for name, array in batch.items()} for batch in batches]


def _named_row(signature: ModelSignature, request: RankRequest, batch: int = 1) -> list[Row]:
    """The same with the id of the user, whose summary the server may have."""
    name = np.array(request.user_id.encode(), object)
    return [{USER_ID: name, **row} for row in _one_row(signature, request)]


def _row_per_candidate(signature: ModelSignature, request: RankRequest, batch: int) -> list[Row]:
    """A row for each candidate, with the user's history in every row; the last row is repeated to fill a batch."""
    user = {name: padded(signature.inputs[name], np.asarray(array)) for name, array in request.history.items()}
    user |= {name: np.asarray(array) for name, array in request.request.items()}
    rows = [
        user | {name: array[place : place + 1] for name, array in request.candidates.items()}
        for place in range(request.num_candidates)
    ]
    return rows + [rows[-1]] * (-len(rows) % batch)


def _single(requests: Sequence[RankRequest], max_batch_size: int) -> int:
    return 1


def _rows_at_a_time(requests: Sequence[RankRequest], max_batch_size: int) -> int:
    """A batch of 9 to 16 rows, or as many as the model takes: the size with the fewest rows that only fill a batch."""
    counts = [request.num_candidates for request in requests]
    longest = max(1, *(np.size(array) for request in requests for array in request.history.values()))
    most = max(1, min(PER_CANDIDATE_ROWS, max_batch_size, PER_CANDIDATE_ELEMENTS // longest, max(counts)))
    return min(range(most, most // 2, -1), key=lambda rows: sum(-count % rows for count in counts))


Rows = Callable[[ModelSignature, RankRequest, int], list[Row]]
"""From a signature, a request and a batch size to the rows of the request: padded as the client pads them, in the order
of the candidates, and as many as fill batches of this size."""
BatchSize = Callable[[Sequence[RankRequest], int], int]
"""From requests, and the most rows that a model takes, to the number of rows in a message."""

_SENT: dict[Sent, tuple[Rows, BatchSize]] = {
    "row": (_one_row, _single),
    "row_and_user_id": (_named_row, _single),
    "row_per_candidate": (_row_per_candidate, _rows_at_a_time),
}


def rows_of(arm: Arm, signature: ModelSignature, request: RankRequest, batch: int) -> list[Row]:
    """One user's request as the arm sends it: see `Rows`."""
    rows, _ = _SENT[arm.sent]
    return rows(signature, request, batch)


def batch_of(arm: Arm, requests: Sequence[RankRequest], max_batch_size: int) -> int:
    """The rows of a message of the arm: see `BatchSize`."""
    _, size = _SENT[arm.sent]
    return size(requests, max_batch_size)


def sizes_as_sent(ranker: Ranker, arm: Arm, request: RankRequest) -> dict[str, int]:
    """The size of every axis, by name, at which an arm runs a request: histories and candidates padded to buckets.

    An arm with a row for each candidate pads no candidates: there the size of their axis is their number.
    """
    sizes = ranker.sizes("opt")
    history, candidates = ranker.history_axis, ranker.candidate_axis
    if history is not None:
        sizes[history.name] = history.bucket(request.num_events)
    count = request.num_candidates
    sizes[candidates.name] = count if arm.row_per_candidate else candidates.bucket(count)
    return sizes


def arm_named(name: str) -> Arm:
    """The arm of this name.

    Raises:
        PerfError: there is none.
    """
    if name not in ARMS:
        raise PerfError(f"arm {name!r}: expected one of {', '.join(ARMS)}; correct --arms")
    return ARMS[name]


class ArmClient:
    """Sends requests to one arm of a ranker on a running server, with the client library; a context manager."""

    def __init__(self, url: str, ranker: str, arm: Arm) -> None:
        self.arm = arm
        self.client = RankerClient(url, arm.model(ranker))

    def __enter__(self) -> ArmClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    @property
    def signature(self) -> ModelSignature:
        return self.client.signature(deadline=DEADLINE_S)

    def scores(self, request: RankRequest) -> Array:
        """The first output of the model, [num_candidates]."""
        signature = self.signature
        size = batch_of(self.arm, [request], signature.max_batch_size)
        rows = rows_of(self.arm, signature, request, size)
        output = next(iter(signature.candidate_outputs))
        scores = []
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            inputs = {name: np.stack([row[name] for row in batch]) for name in batch[0]}
            outputs = self.client.infer(inputs, deadline=DEADLINE_S)
            scores.append(outputs[output].reshape(-1))
        joined: Array = np.concatenate(scores)
        return joined[: request.num_candidates]
