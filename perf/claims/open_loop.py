"""Sends requests when they are due, whether or not earlier ones are answered: an open loop."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from cleave.clients import Ranking

THREADS = 32
"""Requests of one group that can be under way."""

Rank = Callable[[], Ranking]


class DueRequest(NamedTuple):
    """A request and the seconds after which it is due; each group is sent by threads of its own."""

    due_s: float
    group: Hashable
    rank: Rank


@dataclass(frozen=True)
class TimedRanking:
    """Milliseconds from when a request was due to its answer, and how the summary was obtained."""

    latency_ms: float
    summary_status: str | None


def send(requests: Iterable[DueRequest]) -> dict[Hashable, list[TimedRanking]]:
    """Send every request when it is due; the answers by group, in the order in which they were due."""
    with ExitStack() as stack:
        threads: defaultdict[Hashable, ThreadPoolExecutor] = defaultdict(
            lambda: stack.enter_context(ThreadPoolExecutor(THREADS))
        )
        futures: defaultdict[Hashable, list[Future[TimedRanking]]] = defaultdict(list)
        start = time.perf_counter()
        for due_s, group, rank in sorted(requests, key=lambda request: request.due_s):
            time.sleep(max(0.0, start + due_s - time.perf_counter()))
            futures[group].append(threads[group].submit(_timed, rank, start + due_s))
        return {group: [future.result() for future in each] for group, each in futures.items()}


def _timed(rank: Rank, due: float) -> TimedRanking:
    status = rank().summary_status
    return TimedRanking((time.perf_counter() - due) * 1000, status)
