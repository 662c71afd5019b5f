"""`cleave soak`: serves a small model to clients that check every score, and kills whatever there is to kill."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from tqdm import tqdm

from cleave.perf.machine.environment import describe_host, load_average
from cleave.perf.machine.source import source_version
from cleave.perf.soak.clients import Clients
from cleave.perf.soak.outages import CLIENT, PARTS, Killer
from cleave.perf.soak.people import People
from cleave.perf.soak.processes import Process, process_of
from cleave.perf.soak.report import SoakReport
from cleave.perf.soak.server import MODEL, ServeProcess
from cleave.perf.soak.truth import write_subject
from cleave.perf.soak.watch import Watch

WARM_SHARE = 1 / 6
"""The share of a soak after which nothing may grow."""
CALM_SHARE = 1 / 2
"""The share of a soak without kills: what is killed and started anew grows again."""
LONGEST_GAP_S = 15.0
GAP_SHARE = 1 / 10
"""The longest time between two kills, as a share of a short soak."""
SAMPLE_S = 2.0
TICK_S = 0.5
NUM_CLIENTS = 2


@dataclass(frozen=True, kw_only=True)
class SoakOptions:
    """How long a soak is: a time or a number of requests."""

    seconds: float | None = None
    requests: int | None = None
    seed: int = 0
    parts: tuple[str, ...] = PARTS
    """What is killed."""
    command: str = "cleave soak"

    def progress(self, seconds: float, requests: int) -> float:
        """The share that is done, 1 at the end."""
        if self.requests is not None:
            return min(1.0, requests / self.requests)
        assert self.seconds is not None, "a soak has a length"
        return min(1.0, seconds / self.seconds)


def run_soak(options: SoakOptions) -> SoakReport:
    """Build, serve, ask, kill, and tell what happened; nothing is left behind."""
    with tempfile.TemporaryDirectory(prefix="cleave-soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        people = write_subject(folder / "repository", options.seed)
        people.write(folder / "people.npz")
        (folder / "server").mkdir()
        return _Soak(options, folder, people).run()


class _Soak:
    """One run: a server, clients and a thread that kills them."""

    def __init__(self, options: SoakOptions, folder: Path, people: People) -> None:
        self.options = options
        self.folder = folder / "server"
        self.server = ServeProcess(folder / "repository", self.folder)
        self.clients = Clients(self.server.url, MODEL, folder / "people.npz", options.seed, NUM_CLIENTS)
        gap_s = LONGEST_GAP_S if options.seconds is None else min(LONGEST_GAP_S, GAP_SHARE * options.seconds)
        self.killer = Killer(self.server, self.clients, people, options.seed, gap_s)
        self.watch = Watch()
        self.warm_at = self.calm_until = 0.0

    def run(self) -> SoakReport:
        started, load_before = datetime.now(timezone.utc), load_average()
        try:
            self.server.revive()
            began = self.killer.wait_until_whole()
            with self.clients:
                self._until(began, CALM_SHARE, "calm")
                self.calm_until = time.monotonic()
                self._kill_until(began, 1.0)
                seconds = time.monotonic() - began
                tally = self.clients.stop()
        finally:
            self.server.stop()
            left = self._left()
        return SoakReport(
            command=self.options.command,
            seed=self.options.seed,
            source=source_version(),
            machine=describe_host(),
            load_average=(load_before, load_average()),
            started=started.isoformat(timespec="seconds"),
            seconds=seconds,
            tally=tally,
            outages=tuple(self.killer.outages),
            lost=self.clients.lost,
            crashed=self.clients.crashed,
            under_way_when_killed=self.clients.under_way_when_killed,
            growth=tuple(self.watch.growth(self.warm_at, self.calm_until)),
            growth_seconds=self.calm_until - self.warm_at,
            left=tuple(left),
        )

    def _kill_until(self, began: float, share: float) -> None:
        stop = threading.Event()
        killing = threading.Thread(target=self.killer.run, args=(self.options.parts, stop))
        killing.start()
        try:
            self._until(began, share, "kills")
        finally:
            stop.set()
            while killing.is_alive():  # an outage that has begun is seen to its end
                self._tick()
                killing.join(TICK_S)

    def _until(self, began: float, share: float, title: str) -> None:
        """Watch until so much is done."""
        sampled = 0.0
        with tqdm(total=100, desc=title, unit="%", file=sys.stderr, leave=False, disable=None) as bar:
            done = 0.0
            while done < share:
                time.sleep(TICK_S)
                done = self.options.progress(time.monotonic() - began, self._tick())
                bar.update(round(100 * done) - bar.n)
                if time.monotonic() - sampled >= SAMPLE_S:
                    sampled = time.monotonic()
                    self.watch.sample({**self.server.parts(), CLIENT: self._client_processes()}, sampled)
                if done >= WARM_SHARE and not self.warm_at:
                    self.warm_at = time.monotonic()

    def _tick(self) -> int:
        return self.clients.tally().ended

    def _client_processes(self) -> list[Process]:
        found = [process_of(pid) for pid in self.clients.pids]
        return [process for process in found if process is not None]

    def _left(self) -> list[str]:
        """What outlives a server that was stopped."""
        left = [f"process {name}" for name in self.server.end_what_is_left()]
        left += [f"folder {place.name}" for place in self.folder.glob("cleave-*") if place.is_dir()]
        return left + [f"shared memory {region.name}" for region in sorted(self.watch.regions) if region.exists()]
