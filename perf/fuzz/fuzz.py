"""`cleave fuzz`: sends a served ranker what no client of ours would, and puts into its store what it never kept."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from cleave.perf.errors import PerfError
from cleave.perf.fuzz.bodies import BodyFuzzer
from cleave.perf.fuzz.messages import MessageFuzzer
from cleave.perf.fuzz.originals import originals
from cleave.perf.fuzz.report import FuzzReport
from cleave.perf.fuzz.tried import TIMEOUT_S, Tried
from cleave.perf.fuzz.values import ValueFuzzer
from cleave.perf.machine.source import source_version
from cleave.perf.soak.people import People
from cleave.perf.soak.server import ServeProcess
from cleave.perf.soak.truth import write_subject
from cleave.serving.store.embedded import EmbeddedStore

BATCH = 100
"""Mutations after which the server must take a right request, with the processes that it had."""
START_S = 120.0
EXAMPLES = 3
"""Results of one kind that are not defined whose words are kept."""


class _Fuzzer(Protocol):
    def try_one(self, rng: np.random.Generator) -> Tried: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class FuzzOptions:
    """How much is tried."""

    requests: int
    seed: int = 0
    command: str = "cleave fuzz"


def run_fuzz(options: FuzzOptions) -> FuzzReport:
    """Build, serve, mutate, and tell what happened.

    Raises:
        PerfError: the server does not start.
    """
    with (
        tempfile.TemporaryDirectory(prefix="cleave-fuzz-", ignore_cleanup_errors=True) as name,
        EmbeddedStore() as store,
    ):
        folder = Path(name)
        people = write_subject(folder / "repository", options.seed)
        (folder / "server").mkdir()
        server = ServeProcess(folder / "repository", folder / "server", ("--store", store.url))
        server.revive()
        try:
            _wait_until_right(server, people)
            with (
                closing(MessageFuzzer(server.url, found := originals(server.url, people))) as messages,
                closing(BodyFuzzer(server.http_host, found)) as bodies,
                closing(ValueFuzzer(server.url, store.url, people)) as values,
            ):
                # A value costs several requests and has fewer ways to be wrong.
                turns = (messages, bodies, messages, bodies, messages, bodies, values)
                return _run(options, server, people, turns)
        finally:
            server.stop()


def _run(options: FuzzOptions, server: ServeProcess, people: People, fuzzers: tuple[_Fuzzer, ...]) -> FuzzReport:
    rng = np.random.default_rng(options.seed)
    counts: Counter[Tried] = Counter()
    examples: list[tuple[int, Tried]] = []
    deaths, refused, before, started = 0, 0, _pids(server), time.monotonic()
    for number in tqdm(range(options.requests), "fuzz", file=sys.stderr, leave=False, disable=None):
        tried = fuzzers[number % len(fuzzers)].try_one(rng)
        kind = Tried(tried.way, tried.mutation, tried.result, tried.is_defined)
        counts[kind] += 1
        if not tried.is_defined and counts[kind] <= EXAMPLES:
            examples.append((number, tried))
        if (number + 1) % BATCH == 0 or number + 1 == options.requests:
            refused += not server.answers_rightly(people, 0, TIMEOUT_S)
            now = _pids(server)
            if died := before.keys() - now.keys():
                deaths += len(died)
                server.revive()
                _wait_until_right(server, people)
                now = _pids(server)
            before = now
    return FuzzReport(
        command=options.command,
        seed=options.seed,
        source=source_version(),
        seconds=time.monotonic() - started,
        counts=counts,
        examples=tuple(examples),
        deaths=deaths,
        refused=refused,
    )


def _pids(server: ServeProcess) -> Mapping[int, str]:
    return {process.pid: part for part, processes in server.parts().items() for process in processes}


def _wait_until_right(server: ServeProcess, people: People) -> None:
    deadline = time.monotonic() + START_S
    while not server.answers_rightly(people, 0, TIMEOUT_S):
        if time.monotonic() > deadline:
            raise PerfError(
                f"fuzz: expected a server within {START_S:g} s, got none; it said: {server.output.read_text()}"
            )
        time.sleep(0.1)
