"""The right requests that are mutated: every way to ask the models of a ranker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cleave.builders.names import FORGET, HISTORY_ENCODER, SUMMARY_CACHE, USER_ID, WHOLE, model_name
from cleave.clients import RankerClient
from cleave.clients.padding import padded_batch, requests_from_arrays, slices
from cleave.clients.transport import infer_message
from cleave.clients.validation import Array, array_from_user_id, arrays_for_rank, arrays_for_warm, sizes_of
from cleave.perf.soak.people import People
from cleave.perf.soak.server import MODEL

NUM_EVENTS, NUM_CANDIDATES = 5, 3
USER = "fuzz"


@dataclass(frozen=True, eq=False)
class Original:
    """A request that the server takes: arrays [1, ...] for a model."""

    model: str
    version: str
    arrays: dict[str, Array]
    flags: tuple[str, ...] = ()

    def message(self) -> Any:
        """As a new `ModelInferRequest`."""
        return infer_message(self.model, self.version, self.arrays, (), self.flags)


def originals(url: str, people: People) -> list[Original]:
    """Requests of a served ranker, with few events and candidates. Raises: RankerError."""
    return [*_rankings(url, people), *_of_parts(url, people)]


def _rankings(url: str, people: People) -> Iterator[Original]:
    call = people.call(0, NUM_EVENTS, np.arange(NUM_CANDIDATES))
    given = {"candidates": call.candidates, "history": call.history, "request": call.request}
    for model, user_id, kept in (
        (MODEL, USER, False),
        (MODEL, USER, True),
        (model_name(MODEL, WHOLE), None, False),
    ):
        with RankerClient(url, model) as client:
            signature = client.signature()
            if not kept:
                client.rank(call.candidates, user_id=user_id, history=call.history, request=call.request)
        arrays = arrays_for_rank(signature, given | ({"history": None} if kept else {}), user_id)
        (request,) = requests_from_arrays(signature, arrays, slices(signature, sizes_of(signature, arrays)))
        yield Original(model, signature.version or "", dict(request))


def _of_parts(url: str, people: People) -> Iterator[Original]:
    history = people.call(0, NUM_EVENTS, np.arange(NUM_CANDIDATES)).history
    with RankerClient(url, MODEL) as client:
        signature = client.signature()
    warm = dict(padded_batch(signature, arrays_for_warm(signature, USER, history)))
    cache, version = model_name(MODEL, SUMMARY_CACHE), signature.version or ""
    yield Original(cache, version, warm)
    yield Original(cache, version, {USER_ID: array_from_user_id(signature, USER)[np.newaxis]}, (FORGET,))
    encoder = {name: array for name, array in warm.items() if name != USER_ID}
    yield Original(model_name(MODEL, HISTORY_ENCODER), version, encoder)
