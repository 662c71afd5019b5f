"""The ways to serve one model, each as a function from a request to its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builders.roofline import PER_CANDIDATE_ROWS
from clients import RankerClient
from clients.padding import padded
from perf.errors import PerfError

Array = NDArray[Any]
DEADLINE_S = 600.0
CACHED_USER = "perf"
"""The user of the cached arm."""


@dataclass(frozen=True)
class Request:
    """One user's request; arrays have no batch axis."""

    history: Mapping[str, Array]
    request: Mapping[str, Array]
    candidates: Mapping[str, Array]

    @property
    def num_candidates(self) -> int:
        return len(next(iter(self.candidates.values())))


Arm = Callable[[Request], Array]


@dataclass
class Arms:
    """Arms of a ranker on a running server, by name; close it, or use it as a context manager.

    Args:
        url: the server's gRPC address.
        ranker: name of the ranker.
        names: which arms, of `ARM_NAMES`.
    """

    url: str
    ranker: str
    names: Iterable[str]
    functions: dict[str, Arm] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._clients: list[RankerClient] = []
        for name in self.names:
            if name not in _ARMS:
                raise PerfError(f"arm {name!r}: expected one of {', '.join(ARM_NAMES)}; correct --arms")
            model, function = _ARMS[name]
            client = RankerClient(self.url, model.format(self.ranker))
            self._clients.append(client)
            self.functions[name] = _bound(function, client)

    def __enter__(self) -> Arms:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()


def _bound(function: Callable[[RankerClient, Request], Array], client: RankerClient) -> Arm:
    return lambda request: function(client, request)


def _rank(client: RankerClient, request: Request) -> Array:
    """One call with every candidate: of the whole model that is one pass, of the ensemble encoder and scorer."""
    ranking = client.rank(request.candidates, history=request.history, request=request.request, deadline=DEADLINE_S)
    return ranking.scores


def _cached(client: RankerClient, request: Request) -> Array:
    """One call with every candidate and a history that the server has seen, except for the first time."""
    ranking = client.rank(
        request.candidates,
        user_id=CACHED_USER,
        history=request.history,
        request=request.request,
        deadline=DEADLINE_S,
    )
    return ranking.scores


def _per_candidate(client: RankerClient, request: Request) -> Array:
    """The naive way: a row for each candidate, with the user's history in every row."""
    signature = client.signature()
    rows = min(PER_CANDIDATE_ROWS, signature.max_batch_size)
    user = {name: padded(signature.inputs[name], np.asarray(array)) for name, array in request.history.items()}
    single = {**user, **request.request}
    scores = []
    for first in range(0, request.num_candidates, rows):
        chunk = {name: values[first : first + rows, None] for name, values in request.candidates.items()}
        count = len(next(iter(chunk.values())))
        repeated = {name: np.repeat(np.asarray(values)[None], count, axis=0) for name, values in single.items()}
        outputs = client.infer({**repeated, **chunk}, deadline=DEADLINE_S)
        scores.append(next(iter(outputs.values()))[:, 0])
    return np.concatenate(scores)


_ARMS: dict[str, tuple[str, Callable[[RankerClient, Request], Array]]] = {
    "per_candidate": ("{}_whole", _per_candidate),
    "single_pass": ("{}_whole", _rank),
    "uncached": ("{}_uncached", _rank),
    "cached": ("{}", _cached),
}
"""The served model of each arm, and how it is called."""

ARM_NAMES = tuple(_ARMS)
BASELINE = "per_candidate"
"""The arm that ratios are taken to."""
