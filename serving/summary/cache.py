"""The summary cache of one model: an event loop on a thread of its own, so that no request waits for another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from cleave.builders.names import FORGET, USER_ID
from cleave.serving.arrays import Arrays
from cleave.serving.errors import InputError, RequestDroppedError, RequestFailedError, ServingError
from cleave.serving.store.condition import StoreCondition
from cleave.serving.store.url import check_url, connection_from_url
from cleave.serving.summary.caller import PATIENT, Caller
from cleave.serving.summary.encoder_queue import DROPPED
from cleave.serving.summary.metrics import Recorder, Samples, Sums
from cleave.serving.summary.policy import Encode, SummaryPolicy
from cleave.serving.summary.request import (
    Lookup,
    Summary,
    flag_from_parameters,
    lookups_from_inputs,
    outputs_from_summaries,
    user_ids_from_inputs,
)
from cleave.serving.summary.settings import CacheSettings
from cleave.serving.summary.store import TIMEOUT_S, NoStore, StoreError, SummaryStore

THREADS = 64
"""A call of the encoder holds one, which waits."""

PUBLISH_S = 0.5
"""How often the metrics are brought up to date."""

CLOSE_TIMEOUT_S = 10.0

CacheAnswer = Arrays | ServingError
"""The outputs of a request, or why it has none."""


@dataclass(frozen=True, eq=False)
class CacheRequest:
    """Tensors by name, `[batch, ...]` each; `reply` is called once, on a thread of the cache's."""

    inputs: Arrays
    reply: Callable[[CacheAnswer], None]
    parameters: Mapping[str, object] = field(default_factory=dict)
    """`forget`: delete what is kept of the users, and answer without outputs."""
    caller: Caller = PATIENT


class SummaryCache:
    """Answers requests until it is closed.

    Args:
        settings: see there.
        encode: the history encoder; called on the event loop.
        publish: gets what was counted and measured, twice a second.
        warn: gets a line when the store fails, and when it answers again.

    Raises:
        ServingError: the URL of the store is wrong.
    """

    def __init__(
        self,
        settings: CacheSettings,
        encode: Encode,
        publish: Callable[[Sums, Samples], None],
        warn: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._publish = publish
        self._recorder = Recorder()
        self._tasks: set[asyncio.Task[None]] = set()
        self._store = _store(settings, self._recorder, warn)
        self._policy = SummaryPolicy(
            self._store,
            encode,
            settings.user_inputs,
            self._recorder,
            max_age_s=settings.max_age_s,
            max_batch_size=settings.max_batch_size,
            limits=settings.limits,
        )
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="summary-cache"))
        self._thread = threading.Thread(target=self._loop.run_forever, name="summary-cache", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._store.check(), self._loop)
        self._publishing = asyncio.run_coroutine_threadsafe(self._publish_regularly(), self._loop)

    def submit(self, requests: Sequence[CacheRequest]) -> None:
        """Take the requests of one batch; returns before they are answered."""
        lookups: list[tuple[CacheRequest, list[Lookup]]] = []
        for request in requests:
            try:
                if flag_from_parameters(request.parameters, FORGET):
                    self._loop.call_soon_threadsafe(self._start, request, self._forgotten(_users(request)))
                else:
                    # Digests are made on this thread, where no other request waits for them.
                    users = lookups_from_inputs(
                        request.inputs, self._settings.user_inputs, self._settings.keys, request.caller
                    )
                    lookups.append((request, users))
            except InputError as error:
                request.reply(error)
        if lookups:
            self._loop.call_soon_threadsafe(self._look_up, lookups)

    def close(self) -> None:
        """Answer what was submitted, bring the metrics up to date, and let go of the store."""
        self._publishing.cancel()
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(CLOSE_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _look_up(self, requests: Sequence[tuple[CacheRequest, list[Lookup]]]) -> None:
        answers = self._policy.answers([lookups for _, lookups in requests])
        for (request, _), answer in zip(requests, answers, strict=True):
            self._start(request, self._found(request, answer))

    def _start(self, request: CacheRequest, answer: Coroutine[Any, Any, CacheAnswer]) -> None:
        task = self._loop.create_task(self._respond(request, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond(self, request: CacheRequest, answer: Coroutine[Any, Any, CacheAnswer]) -> None:
        """Whatever happens, there is a reply: without one a request waits forever."""
        try:
            request.reply(await answer)
        except ServingError as error:
            request.reply(error)
        except Exception as error:
            self._loop.call_exception_handler({"message": "summary cache", "exception": error})
            request.reply(RequestFailedError(f"{type(error).__name__}: {error}; see the server's log"))

    async def _found(self, request: CacheRequest, answer: Awaitable[Sequence[Summary]]) -> CacheAnswer:
        summaries = await answer
        if not request.caller.waits:  # what was encoded is kept, but its candidates need not be scored
            raise RequestDroppedError(DROPPED)
        return outputs_from_summaries(summaries, self._settings.summary_format)

    async def _forgotten(self, user_ids: Sequence[bytes]) -> CacheAnswer:
        """Of every user, whatever fails for another."""
        failed = []
        for user_id in user_ids:
            try:
                await self._policy.forget(user_id)
            except StoreError as error:
                failed.append(error)
        if failed:
            raise StoreError(
                f"{len(user_ids) - len(failed)} of {len(user_ids)} users deleted: {'; '.join(map(str, failed))}"
            )
        return {}

    async def _publish_regularly(self) -> None:
        while True:
            await asyncio.sleep(PUBLISH_S)
            await self._publish_now()

    async def _publish_now(self) -> None:
        try:
            await self._loop.run_in_executor(None, self._publish, *self._recorder.drain())
        except Exception as error:  # without metrics the cache still serves
            self._loop.call_exception_handler({"message": "summary cache: metrics", "exception": error})

    async def _finish(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._publish_now()
        await self._store.close()


def _store(settings: CacheSettings, recorder: Recorder, warn: Callable[[str], None]) -> NoStore | SummaryStore:
    url = settings.store_url
    if url is None:
        return NoStore()
    check_url(url)
    return SummaryStore(
        lambda: connection_from_url(url, TIMEOUT_S),
        settings.keys,
        settings.summary_format,
        recorder,
        StoreCondition(url, warn),
    )


def _users(request: CacheRequest) -> list[bytes]:
    user_ids = user_ids_from_inputs(request.inputs)
    if not (user_ids and all(user_ids)):
        raise InputError(f"input {USER_ID!r}: expected the user to forget, got none; send the user's id")
    return user_ids
