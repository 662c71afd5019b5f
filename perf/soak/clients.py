"""The processes of clients of a soak: started, killed mid-call, replaced, and their tallies added up."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from cleave.perf.soak.caller import DEADLINE_S, GRACE_S
from cleave.perf.soak.client import ClientTask, run_client
from cleave.perf.soak.tally import Tally

STOP_S = DEADLINE_S + 2 * GRACE_S
POLL_S = 0.05


class _Client:
    """One process and what it has told so far."""

    def __init__(self, task: ClientTask) -> None:
        context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=run_client, args=(task, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.tally = Tally()

    def drain(self) -> bool:
        """Add what it tells by now; whether it can tell more."""
        try:
            while self.pipe.poll():
                self.tally.add(self.pipe.recv())
        except (EOFError, OSError):
            return False
        return True

    def finish(self) -> None:
        """Hear it to its end, which it was told to come to."""
        deadline = time.monotonic() + STOP_S
        while self.drain() and self.process.is_alive() and time.monotonic() < deadline:
            self.process.join(POLL_S)
        self.drain()


class Clients:
    """Several processes that ask one server, some sync, some asyncio; may be used by several threads.

    Args:
        num: how many at a time.
    """

    def __init__(self, url: str, model: str, people: Path, seed: int, num: int = 2) -> None:
        self._url, self._model, self._people, self._seed, self._num = url, model, people, seed, num
        self._lock = threading.Lock()
        self._running: list[_Client] = []
        self._started = 0
        self._past = Tally()
        self.under_way_when_killed = 0
        """Requests of clients that were killed, which nobody waits for any more."""
        self.crashed = 0
        """Clients that ended and were not killed."""
        self.lost = 0
        """Requests without an answer or an error when the clients were stopped, long after their deadlines."""

    def __enter__(self) -> Clients:
        self._running = [self._made(place) for place in range(self._num)]
        return self

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            for client in self._running:
                client.process.kill()
            self._running.clear()

    @property
    def pids(self) -> list[int]:
        with self._lock:
            return [client.process.pid for client in self._running if client.process.pid is not None]

    def tally(self) -> Tally:
        """All requests up to now, of clients that were killed as well."""
        with self._lock:
            total = Tally()
            total.add(self._past)
            for place, client in enumerate(self._running):
                if not client.drain():
                    self.crashed += 1
                    self._retire(client)
                    self._running[place] = self._made(place)
                total.add(client.tally)
        return total

    def kill_one(self, rng: np.random.Generator) -> Callable[[], bool]:
        """Kill a process in the middle of its calls and start another. Returns whether that one got answers yet."""
        with self._lock:
            place = int(rng.integers(len(self._running)))
            client = self._running[place]
            client.process.kill()
            client.process.join()
            client.drain()
            self.under_way_when_killed += client.tally.begun - client.tally.ended
            self._retire(client)
            new = self._running[place] = self._made(place)
        return lambda: new.tally.answered > 0

    def stop(self) -> Tally:
        """Let calls under way end; all requests."""
        with self._lock:
            for client in self._running:
                client.pipe.send("stop")
            for client in self._running:
                client.finish()
                self.lost += client.tally.begun - client.tally.ended
                self._retire(client)
            self._running.clear()
            return self._past

    def _retire(self, client: _Client) -> None:
        client.process.kill()
        self._past.add(client.tally)
        client.pipe.close()

    def _made(self, place: int) -> _Client:
        self._started += 1
        name = f"client-{self._started}"
        asynchronous = bool(place % 2)
        return _Client(ClientTask(self._url, self._model, self._people, name, asynchronous, self._seed + self._started))
