"""Decides for each user of a request whether a kept summary may be used, and encodes where none may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import numpy as np

from cleave.builders.names import CORRUPT, FOREIGN, HIT, MISS, OFF, STALE, STORE_ERROR, Absence, Status
from cleave.serving.arrays import Arrays
from cleave.serving.errors import InputError, OverloadError, RequestDroppedError, ServingError
from cleave.serving.limits import Limits
from cleave.serving.summary.encoder_queue import EncoderQueue, Flight, SummaryOrError, unexpected
from cleave.serving.summary.metrics import (
    AGE_SECONDS,
    DROPPED,
    ENCODE_SECONDS,
    ENCODED,
    ERROR,
    EXPIRED,
    LOOKUPS,
    NOT_FOUND,
    REFUSED,
    Recorder,
)
from cleave.serving.summary.request import Lookup, Summary
from cleave.serving.summary.store import Permit
from cleave.serving.summary.user_inputs import UserInputs
from cleave.serving.summary.wire_format import KeptSummary

_WHY_NOT_ENCODED: dict[type[ServingError], str] = {OverloadError: REFUSED, RequestDroppedError: DROPPED}

_WHY_NOT_FOUND: dict[Absence, str] = {
    MISS: "none is kept",
    CORRUPT: "the one that was kept is damaged",
    FOREIGN: "the one that was kept is of another version",
    STORE_ERROR: "the store cannot be reached",
    OFF: "this server keeps none",
}


class SummaryNotFoundError(ServingError):
    """A user was named by id alone, and no summary may be used; `reason` is what the metrics say."""

    status = "NOT_FOUND"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Store(Protocol):
    """Where summaries are kept; see `SummaryStore`."""

    async def get(self, key: bytes) -> KeptSummary | Absence: ...
    async def permit(self, user_id: bytes) -> Permit | None: ...
    async def put(self, key: bytes, kept: KeptSummary, permit: Permit | None = None) -> bool: ...
    async def forget(self, user_id: bytes) -> None: ...


Encode = Callable[[Arrays], Awaitable[Arrays]]
"""From the user inputs of a batch to its summary, [batch, ...] both. Raises: ServingError."""


class SummaryPolicy:
    """The four cases: a verified hit, a stale summary, a miss, and a user by id alone.

    A kept summary is used if it was made of the user inputs at hand. Without them it is used if it is younger than
    `max_age_s`. All work is done on the event loop that the calls come from.

    Args:
        store: where summaries are kept.
        encode: the history encoder.
        user_inputs: what the encoder takes of a user.
        recorder: gets a count for each lookup, times and ages.
        max_age_s: see above.
        max_batch_size: users that `encode` takes at a time.
        limits: how many users may wait for `encode`, and how many calls of it there are at a time.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        store: Store,
        encode: Encode,
        user_inputs: UserInputs,
        recorder: Recorder,
        *,
        max_age_s: float,
        max_batch_size: int,
        limits: Limits = Limits(),  # noqa: B008 - it cannot change
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._encode = encode
        self._user_inputs = user_inputs
        self._recorder = recorder
        self._max_age_s = max_age_s
        self._queue = EncoderQueue(
            self._encode_batch,
            self._land,
            max_batch_size=max_batch_size,
            limits=limits,
        )
        self._clock = clock
        self._flights: dict[tuple[bytes, bytes | None], Flight] = {}
        self._running: set[asyncio.Task[None]] = set()

    def answers(self, requests: Sequence[Sequence[Lookup]]) -> list[Awaitable[list[Summary]]]:
        """The summaries of each request, in the order of its users, or the error of one of them.

        The lookups of all requests begin at once and those to be encoded are joined in batches, but each request is
        answered as soon as its own users are: a hit waits for the store and not for the encoder.

        An awaited answer raises `SummaryNotFoundError`, or whatever `encode` raised.
        """
        fresh: list[Flight] = []
        landings = [[self._joined(lookup, fresh).landed for lookup in lookups] for lookups in requests]
        if fresh:
            task = asyncio.get_running_loop().create_task(self._fly(fresh))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return [self._answer(lookups, landed) for lookups, landed in zip(requests, landings, strict=True)]

    async def forget(self, user_id: bytes) -> None:
        """Delete what is kept of a user; what is being encoded is not kept either.

        Raises:
            StoreError: it may still be kept.
        """
        await self._store.forget(user_id)

    def _joined(self, lookup: Lookup, fresh: list[Flight]) -> Flight:
        flight = Flight(lookup, asyncio.get_running_loop().create_future())
        known = self._flights.setdefault(flight.identity, flight)
        if known is flight:
            fresh.append(flight)
        else:
            known.joined.append(lookup)
        return known

    async def _answer(
        self, lookups: Sequence[Lookup], landed: Sequence[asyncio.Future[SummaryOrError]]
    ) -> list[Summary]:
        answers = await asyncio.gather(*landed)
        for lookup, answer in zip(lookups, answers, strict=True):
            self._count(lookup, answer)
        summaries = []
        for answer in answers:
            if isinstance(answer, ServingError):
                raise answer
            summaries.append(answer)
        if _agree(summaries):
            return summaries
        return await self._padded_alike(lookups, summaries)

    def _count(self, lookup: Lookup, answer: SummaryOrError) -> None:
        if isinstance(answer, Summary):
            self._recorder.observe(AGE_SECONDS, answer.age_s, lookup.by)
            reason: str = answer.status
        elif isinstance(answer, SummaryNotFoundError):
            reason = answer.reason
        else:
            reason = _WHY_NOT_ENCODED.get(type(answer), ERROR)
        self._recorder.add(LOOKUPS, lookup.by, reason)

    async def _fly(self, flights: Sequence[Flight]) -> None:
        """Land every flight, whatever happens."""
        try:
            kept = await asyncio.gather(*(self._store.get(flight.lookup.key) for flight in flights))
            unkept = []
            for flight, found in zip(flights, kept, strict=True):
                answer = self._judged(flight.lookup, found)
                if isinstance(answer, str):
                    flight.status = answer
                    unkept.append(flight)
                else:
                    self._land(flight, answer)
            await asyncio.gather(*map(self._permit, unkept))
            self._queue.add(unkept)
        except Exception as error:
            failure = unexpected(error)
            for flight in flights:
                self._land(flight, failure)

    async def _permit(self, flight: Flight) -> None:
        """Once, before anything is encoded: a user may be forgotten at any time from here on."""
        if flight.lookup.user_id:
            flight.permit = await self._store.permit(flight.lookup.user_id)

    def _land(self, flight: Flight, answer: SummaryOrError) -> None:
        if not flight.landed.done():
            del self._flights[flight.identity]
            flight.landed.set_result(answer)

    def _judged(self, lookup: Lookup, found: KeptSummary | Absence) -> SummaryOrError | Status:
        """The answer that needs no encoder, or why it is needed."""
        if not isinstance(found, KeptSummary):
            if lookup.inputs is not None:
                return found
            return self._not_found(lookup, _WHY_NOT_FOUND[found], NOT_FOUND if found == MISS else found)
        age_s = max(0.0, self._clock() - found.encoded_at)  # clocks of two machines differ
        if lookup.inputs is not None:
            return Summary(found.tensors, HIT, age_s) if found.digest == lookup.digest else STALE
        if age_s > self._max_age_s:
            why = f"the one that is kept is {age_s:.0f} s old, expected at most {self._max_age_s:g} s"
            return self._not_found(lookup, why, EXPIRED)
        return Summary(found.tensors, HIT, age_s)

    def _not_found(self, lookup: Lookup, why: str, reason: str) -> SummaryNotFoundError:
        inputs = ", ".join(self._user_inputs.names)
        return SummaryNotFoundError(
            f"user {lookup.user}: no summary to use, as {why}; send the user inputs ({inputs}) as well", reason
        )

    async def _encode_batch(self, batch: Sequence[Flight]) -> None:
        """Encode and keep users of equal shapes; if that fails, each by itself, so that only the cause of it fails."""
        try:
            summaries = await self._encoded([flight.lookup for flight in batch])
        except ServingError as error:
            if len(batch) == 1:
                self._land(batch[0], error)
            else:
                await asyncio.gather(*(self._encode_batch([single]) for single in batch))
            return
        now = self._clock()
        await asyncio.gather(
            *(self._keep(flight, tensors, now) for flight, tensors in zip(batch, summaries, strict=True))
        )

    async def _encoded(self, lookups: Sequence[Lookup]) -> list[Arrays]:
        """The summary of each user. Raises: ServingError."""
        inputs = [lookup.inputs for lookup in lookups if lookup.inputs is not None]
        started = time.perf_counter()
        outputs = await self._encode(
            {name: np.stack([each[name] for each in inputs]) for name in self._user_inputs.names}
        )
        self._recorder.observe(ENCODE_SECONDS, time.perf_counter() - started)
        self._recorder.add(ENCODED, amount=len(inputs))
        return [{name: output[row] for name, output in outputs.items()} for row in range(len(inputs))]

    async def _keep(self, flight: Flight, tensors: Arrays, now: float) -> None:
        """Kept before it is answered, so that whoever saw the answer finds it."""
        lookup, status = flight.lookup, flight.status
        assert status is not None, "what is encoded was judged"
        if lookup.digest is not None and (flight.permit is not None or not lookup.user_id):
            await self._store.put(lookup.key, KeptSummary(tensors, lookup.digest, now), flight.permit)
        self._land(flight, Summary(tensors, status, 0.0))

    async def _padded_alike(self, lookups: Sequence[Lookup], summaries: Sequence[Summary]) -> list[Summary]:
        """Encode the users of one request again, which were kept at different paddings, and keep what is kept.

        Raises:
            InputError: there is nothing to encode, as they were named by id alone.
        """
        if any(lookup.inputs is None for lookup in lookups):
            raise InputError(
                f"users {', '.join(lookup.user for lookup in lookups)}: expected kept summaries of one size, "
                "got several; ask for one user in each request"
            )
        encoded = await self._encoded(lookups)
        return [
            Summary(tensors, summary.status, summary.age_s) for tensors, summary in zip(encoded, summaries, strict=True)
        ]


def _agree(summaries: Sequence[Summary]) -> bool:
    """Whether they can be the rows of one batch."""
    shapes = [{name: tensor.shape for name, tensor in summary.tensors.items()} for summary in summaries]
    return all(shape == shapes[0] for shape in shapes)
