"""Keeps summaries in Valkey, or any server of its protocol; when that fails, nothing is kept and nothing breaks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from valkey.exceptions import ResponseError, ValkeyClusterException

from cleave.builders.names import MISS, OFF, STORE_ERROR, Absence
from cleave.serving.errors import ServingError
from cleave.serving.store.condition import StoreCondition
from cleave.serving.store.url import FAILURES
from cleave.serving.summary.keys import Keys, shown
from cleave.serving.summary.metrics import READ_BYTES, STORE_ERRORS, STORE_SECONDS, WRITTEN_BYTES, Recorder
from cleave.serving.summary.summary_format import SummaryFormat
from cleave.serving.summary.wire_format import KeptSummary, UnusableValueError, kept_from_value, value_from_kept

REST_S = 1.0
"""After it could not be reached the store is left alone for so long, so that a dead one does not slow every request."""

KEPT_S = 7 * 24 * 3600
"""Nothing is kept for longer: it bounds what an older build, or a user who never returns, leaves behind."""

TIMEOUT_S = 0.25
"""For a connection and for an answer: encoding anew takes about as long."""

MAX_COMMANDS = 16
"""Commands at a time; each holds a thread and a connection. With asyncio a summary of 3 MiB would take 1 ms longer."""

PERMIT_S = 600
"""How long a permit is valid after it was last given: longer than any request."""

_PERMIT = """
local value = redis.call('GET', KEYS[1])
if not value then
    value = ARGV[1]
    redis.call('SET', KEYS[1], value, 'EX', ARGV[2])
else
    redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return value
"""
"""The permit of a user, made if there is none: all who encode the user at the same time share it."""

_KEEP = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
"""Keep a summary unless its user was forgotten since the permit was given."""

_DISPENSABLE = ("get", "sadd", "set", "eval")
"""Commands that are not even tried while the store is left alone."""


class StoreError(ServingError):
    """The store did not do what it was asked."""

    status = "UNAVAILABLE"


@dataclass(frozen=True)
class Permit:
    """Allows summaries of a user to be kept while `value` is what is at `key`; it is deleted to forget the user.

    What forbids is an absence, because a deletion needs no memory: a full store refuses to write a mark.
    """

    key: bytes
    value: bytes


class NoStore:
    """Keeps nothing."""

    async def get(self, key: bytes) -> Absence:
        return OFF

    async def permit(self, user_id: bytes) -> Permit | None:
        return None

    async def put(self, key: bytes, kept: KeptSummary, permit: Permit | None = None) -> bool:
        return False

    async def forget(self, user_id: bytes) -> None:
        pass

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        pass


class SummaryStore:
    """The summaries of one build of one encoder.

    Args:
        connect: makes a client of the store, as `cleave.serving.store.url.connection_from_url` does; it may fail as
            commands do.
        keys: names the build, whose summaries alone are used.
        summary_format: what a summary must look like.
        recorder: gets errors, bytes and times.
        condition: is told how each command ended.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        keys: Keys,
        summary_format: SummaryFormat,
        recorder: Recorder,
        condition: StoreCondition,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._condition = condition
        self._connection: Any = None
        self._connecting = threading.Lock()
        self._threads = ThreadPoolExecutor(MAX_COMMANDS, thread_name_prefix="summary-store")
        self._keys = keys
        self._format = summary_format
        self._recorder = recorder
        self._clock = clock
        self._rests_until = clock()

    async def get(self, key: bytes) -> KeptSummary | Absence:
        """The summary of a key, or why there is none."""
        try:
            value: bytes | None = await self._ask("get", key)
        except StoreError:
            return STORE_ERROR
        if value is None:
            return MISS
        self._recorder.add(READ_BYTES, amount=len(value))
        try:
            return kept_from_value(value, self._keys.build, self._format)
        except UnusableValueError as error:
            return error.flaw

    async def permit(self, user_id: bytes) -> Permit | None:
        """What `put` must find unchanged; None if the store cannot give it, and then it could keep no summary."""
        key = self._keys.permit(user_id)
        try:
            return Permit(key, await self._ask("eval", _PERMIT, 1, key, secrets.token_bytes(8), PERMIT_S))
        except StoreError:
            return None

    async def put(self, key: bytes, kept: KeptSummary, permit: Permit | None = None) -> bool:
        """Keep a summary, but not of a user who was forgotten since `permit` was given; whether that was done."""
        value = value_from_kept(kept, self._keys.build)
        try:
            # Said with every summary: the store may have lost it since.
            await self._ask("sadd", self._keys.builds, self._keys.build.hex())
            if permit is None:
                done = await self._ask("set", key, value, ex=KEPT_S)
            else:
                done = await self._ask("eval", _KEEP, 2, key, permit.key, permit.value, value, KEPT_S)
        except StoreError:
            return False
        if done:
            self._recorder.add(WRITTEN_BYTES, amount=len(value))
        return bool(done)

    async def forget(self, user_id: bytes) -> None:
        """Delete what is kept of a user: the permit first, so that what is being encoded now, by whatever process, is
        not kept afterwards; then events, of which a summary could be made again; then summaries by whatever build.

        All of it is tried, whatever fails, by commands that need no memory.

        Raises:
            StoreError: something may still be kept; says what, and what was deleted.
        """
        refresh = self._keys.refresh
        steps: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("the permit to keep what is being encoded", lambda: self._ask("delete", self._keys.permit(user_id))),
            ("events", lambda: self._ask("delete", refresh.history(user_id))),
            ("times of refreshing", lambda: self._ask("zrem", refresh.due, user_id)),
            ("times of refreshing", lambda: self._ask("zrem", refresh.encoded, user_id)),
            ("summaries", lambda: self._delete_summaries(user_id)),
        ]
        failed: dict[str, StoreError] = {}
        for what, delete in steps:
            try:
                await delete()
            except StoreError as error:
                failed.setdefault(what, error)
        if failed:
            done = dict.fromkeys(what for what, _ in steps if what not in failed)
            raise StoreError(
                f"user {shown(user_id)}: expected all that is kept of the user to be deleted, got "
                f"{', '.join(done) or 'nothing'} deleted, and not {', '.join(failed)}, which may still be kept "
                f"({next(iter(failed.values()))}); ask again"
            )

    async def _delete_summaries(self, user_id: bytes) -> None:
        """This build's first, which can be named even if the store does not say what others there were."""
        own = self._keys.build.hex().encode()
        await self._ask("delete", self._keys.of_user_and_build(user_id, own))
        for build in await self._ask("smembers", self._keys.builds):
            await self._ask("delete", self._keys.of_user_and_build(user_id, build))

    async def check(self) -> None:
        """Ask the store for something, so that trouble is known before the first request."""
        with contextlib.suppress(StoreError):  # which was reported
            await self._ask("smembers", self._keys.builds)

    async def close(self) -> None:
        self._threads.shutdown()
        if self._connection is not None:
            self._connection.close()

    async def _ask(self, command: str, *arguments: Any, **options: Any) -> Any:
        call = functools.partial(self._do, command, *arguments, **options)
        try:
            result, seconds = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except FAILURES as error:
            self._recorder.add(STORE_ERRORS, command)
            raise StoreError(f"store: {command}: {error}; see that it runs and can be reached") from error
        self._recorder.observe(STORE_SECONDS, seconds, command)
        return result

    def _do(self, command: str, *arguments: Any, **options: Any) -> tuple[Any, float]:
        """A command's result and the time it took, on a thread that waits for it."""
        started = self._clock()
        if started < self._rests_until and command in _DISPENSABLE:
            raise StoreError("store: left alone after it could not be reached")
        try:
            with self._connecting:
                connection = self._connection = self._connection or self._connect()
            result = getattr(connection, command)(*arguments, **options)
        except FAILURES as error:
            self._condition.failed(error)
            if not isinstance(error, ResponseError):  # which is an answer
                self._rests_until = self._clock() + REST_S
            if isinstance(error, ValkeyClusterException):
                self._connection = None  # it does not find nodes again that were all lost
            raise
        self._condition.answered()
        self._rests_until = started
        return result, self._clock() - started
