"""Kills parts of the server and clients at random moments, and tells how long each was missing."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cleave.perf.soak.clients import Clients
from cleave.perf.soak.people import People
from cleave.perf.soak.processes import Process
from cleave.perf.soak.server import BACKENDS, SERVE, STORE, TRITON, ServeProcess

CLIENT = "client"
PARTS = (*BACKENDS, STORE, TRITON, SERVE, CLIENT)
"""What is killed."""
GIVE_UP_S = 90.0
"""A part that is missing for longer is taken to stay so: the server is stopped and started."""
PROBE_DEADLINE_S = 3.0
POLL_S = 0.1


RECONNECT_S = 2.0
"""How long after a server is back a client may not have found it: one that was just refused waits for a second before
it tries to connect again (`cleave.clients.transport.OPTIONS`)."""


@dataclass(frozen=True)
class Outage:
    """The time from a kill until all parts were there again and a new user got right scores."""

    part: str
    killed: float
    back: float
    """Both by `time.monotonic`."""
    whole_by_itself: bool
    """Whether the server came back without being started again by hand, unless it had ended."""

    @property
    def seconds(self) -> float:
        return self.back - self.killed

    def overlaps(self, sent: float, ended: float) -> bool:
        """Whether a call was under way at any time of it, or before clients had found the server again."""
        return sent <= self.back + RECONNECT_S and ended >= self.killed


class Killer:
    """Kills one part after another.

    Args:
        seed: which parts, which of their processes, and when.
        gap_s: the longest time from one outage to the next kill.
    """

    def __init__(self, server: ServeProcess, clients: Clients, people: People, seed: int, gap_s: float) -> None:
        self._server = server
        self._clients = clients
        self._people = people
        self._rng = np.random.default_rng(seed)
        self._gap_s = gap_s
        self._probes = itertools.count()
        self._whole: Mapping[str, int] = {}
        self.outages: list[Outage] = []

    def run(self, parts: tuple[str, ...], stop: threading.Event) -> None:
        """Kill until `stop` is set; every part comes once before any comes again."""
        for part in self._shuffled(parts):
            if stop.wait(float(self._rng.uniform(self._gap_s / 3, self._gap_s))):
                return
            self.outages.append(self._outage(part))

    def wait_until_whole(self) -> float:
        """Wait until the server answers; what it consists of then is what it has to have after each kill.

        Returns: the time of it by `time.monotonic`.
        """
        while not self._answers():
            self._server.revive()
            time.sleep(POLL_S)
        self._whole = {part: len(processes) for part, processes in self._server.parts().items()}
        return time.monotonic()

    def _shuffled(self, parts: tuple[str, ...]) -> Iterator[str]:
        while True:
            yield from (parts[place] for place in self._rng.permutation(len(parts)))

    def _outage(self, part: str) -> Outage:
        if part == CLIENT:
            killed = time.monotonic()
            answers = self._clients.kill_one(self._rng)
            return Outage(part, killed, *self._wait(answers, killed))
        processes = self._server.parts()[part]
        victim = processes[int(self._rng.integers(len(processes)))]
        killed = time.monotonic()
        os.kill(victim.pid, signal.SIGKILL)
        return Outage(part, killed, *self._wait(lambda: self._is_whole_without(part, victim), killed))

    def _wait(self, is_back: Callable[[], bool], killed: float) -> tuple[float, bool]:
        while time.monotonic() - killed < GIVE_UP_S:
            if is_back():
                return time.monotonic(), True
            self._server.revive()
            time.sleep(POLL_S)
        self._server.stop()
        return self.wait_until_whole(), False

    def _is_whole_without(self, part: str, victim: Process) -> bool:
        now = self._server.parts()
        if victim in now[part] or any(len(now[name]) < count for name, count in self._whole.items()):
            return False
        return self._answers()

    def _answers(self) -> bool:
        """Whether a user whom the server does not know gets right scores, which takes all of its parts."""
        number = next(self._probes)
        user = number % len(self._people.truth)
        return self._server.answers_rightly(self._people, user, PROBE_DEADLINE_S, f"probe-{number}")
