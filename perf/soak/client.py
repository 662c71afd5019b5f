"""A process of clients of a soak, sync or asyncio, that reports what it saw until it is told to stop, or killed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cleave.clients import AsyncRankerClient, RankerClient
from cleave.perf.soak.caller import DEADLINE_S, GRACE_S, Ask, Caller, count
from cleave.perf.soak.people import read_people
from cleave.perf.soak.tally import Tally

CALLERS = 4
"""Calls under way at a time in one process."""
REPORT_EVERY_S = 0.2
PAUSE_S = 0.1
"""After an error, before the next request."""


@dataclass(frozen=True)
class ClientTask:
    """What one process of clients does."""

    url: str
    model: str
    people: Path
    name: str
    """Of this process alone: begins the ids of its users."""
    asyncio: bool
    seed: int


class _Log:
    """Counts what callers in several threads begin and end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tally = Tally()

    def begin(self) -> None:
        with self._lock:
            self._tally.begun += 1

    def end(self, ask: Ask, sent: float, result: Any) -> None:
        with self._lock:
            count(self._tally, ask, sent, result)

    def taken(self) -> Tally:
        """What happened since this was asked before."""
        with self._lock:
            taken, self._tally = self._tally, Tally()
        return taken


def run_client(task: ClientTask, pipe: Connection) -> None:
    """Ask until something comes through the pipe or its other end closes; sends a `Tally` several times a second."""
    people = read_people(task.people)
    callers = [Caller(people, task.name, number, CALLERS, task.seed) for number in range(CALLERS)]
    log, stop = _Log(), threading.Event()
    run: Callable[..., None] = _run_asyncio if task.asyncio else _run_threads
    running = threading.Thread(target=run, args=(task, callers, log, stop), daemon=True)
    running.start()
    try:
        while not pipe.poll(REPORT_EVERY_S):
            pipe.send(log.taken())
        stop.set()
        running.join(DEADLINE_S + GRACE_S)  # a call that takes longer is lost
        pipe.send(log.taken())
    except (BrokenPipeError, EOFError):
        stop.set()  # whoever wanted to know has gone


def _run_threads(task: ClientTask, callers: list[Caller], log: _Log, stop: threading.Event) -> None:
    def run(caller: Caller) -> None:
        while not stop.is_set():
            ask, sent = caller.next(), time.monotonic()
            log.begin()
            try:
                result = ask.send(client)
            except Exception as error:
                result = error
            log.end(ask, sent, result)
            if isinstance(result, Exception):
                stop.wait(PAUSE_S)

    with RankerClient(task.url, task.model) as client:
        threads = [threading.Thread(target=run, args=(caller,), daemon=True) for caller in callers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _run_asyncio(task: ClientTask, callers: list[Caller], log: _Log, stop: threading.Event) -> None:
    async def run(client: AsyncRankerClient, caller: Caller) -> None:
        while not stop.is_set():
            ask, sent = caller.next(), time.monotonic()
            log.begin()
            try:
                result = await ask.send(client)
            except Exception as error:
                result = error
            log.end(ask, sent, result)
            if isinstance(result, Exception):
                await asyncio.sleep(PAUSE_S)

    async def run_all() -> None:
        async with AsyncRankerClient(task.url, task.model) as client:
            await asyncio.gather(*(run(client, caller) for caller in callers))

    asyncio.run(run_all())
