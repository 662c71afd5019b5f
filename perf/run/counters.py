"""What the server counts: the requests of each model, and how each summary was obtained."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from cleave.builders.names import SUMMARY_CACHE, model_name
from cleave.perf.errors import PerfError
from cleave.perf.run.server import TIMEOUT_S, asking
from cleave.serving.summary.metrics import LOOKUPS

PUBLISHED_S = 0.7
"""A summary cache publishes its counts twice a second: without a change for so long, they are complete."""
PATIENCE_S = 5.0
"""How long counts are waited for that the server makes after it has answered."""
POLL_S = 0.05
NOBODY_ELSE = "see that nobody else uses the server"
"""The end of errors of counts that do not match."""

_LINE = re.compile(rf"^{LOOKUPS.name}{{(.*)}} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Served(NamedTuple):
    """What a model served."""

    requests: int
    rows: int
    total_ns: int
    """Nanoseconds from arrival to answer, summed over all requests."""

    def since(self, before: Served) -> Served:
        return Served(*(now - then for now, then in zip(self, before, strict=True)))


@dataclass(frozen=True)
class Counters:
    """Reads the counts of a running server.

    Args:
        url: the server's gRPC address.
        metrics_url: the address of its metrics.
    """

    url: str
    metrics_url: str

    def served(self) -> dict[str, Served]:
        """What each loaded model served since the server was started.

        Raises:
            PerfError: the server cannot be asked.
        """
        with asking(self.url) as client:
            statistics = client.get_inference_statistics(client_timeout=TIMEOUT_S)
        return {
            model.name: Served(
                model.inference_stats.success.count, model.inference_count, model.inference_stats.success.ns
            )
            for model in statistics.model_stats
        }

    def served_since(self, before: Mapping[str, Served], model: str, requests: int) -> dict[str, Served]:
        """What each model served since `before`, when `model` has counted this many requests or `PATIENCE_S` is over.

        Triton counts a request after it has answered it.

        Raises:
            PerfError: the server cannot be asked.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            served = since(self.served(), before)
            if served[model].requests >= requests or time.monotonic() > deadline:
                return served
            time.sleep(POLL_S)

    def lookups(self, ranker: str) -> Counter[str]:
        """Lookups of a ranker's summary cache since the server was started, by how the summary was obtained.

        Raises:
            PerfError: the metrics cannot be read.
        """
        try:
            with urllib.request.urlopen(self.metrics_url, timeout=TIMEOUT_S) as answer:
                text = answer.read().decode()
        except (OSError, urllib.error.URLError, ValueError) as error:
            raise PerfError(
                f"{self.metrics_url}: expected the server's metrics, got: {error}; name them with --metrics-url"
            ) from error
        counts: Counter[str] = Counter()
        for labels, value in _LINE.findall(text):
            found = dict(_LABEL.findall(labels))
            if found["model"] == model_name(ranker, SUMMARY_CACHE):
                counts[found["reason"]] += int(float(value))
        return counts

    def settled_lookups(self, ranker: str) -> Counter[str]:
        """What `lookups` gives once all lookups of earlier requests are published.

        Raises:
            PerfError: the counts do not stop growing.
        """
        counts, since = self.lookups(ranker), time.monotonic()
        deadline = since + PATIENCE_S
        while time.monotonic() < since + PUBLISHED_S:
            if time.monotonic() > deadline:
                raise PerfError(
                    f"{model_name(ranker, SUMMARY_CACHE)}: expected no lookups between measurements by its metrics, "
                    f"got some for {PATIENCE_S:g} s; {NOBODY_ELSE}"
                )
            time.sleep(POLL_S)
            if (now := self.lookups(ranker)) != counts:
                counts, since = now, time.monotonic()
        return counts

    @contextmanager
    def counting_lookups(self, ranker: str, expected: int) -> Iterator[Counter[str]]:
        """Yields a counter, and at the end of the block fills it with the lookups that were made in the block.

        Raises:
            PerfError: there are more or fewer of them than expected.
        """
        before, counted = self.settled_lookups(ranker), Counter[str]()
        yield counted
        deadline = time.monotonic() + PATIENCE_S
        while True:
            counted.update(self.lookups(ranker) - before)
            if counted.total() >= expected or time.monotonic() > deadline:
                break
            counted.clear()
            time.sleep(POLL_S)
        if counted.total() != expected:
            raise PerfError(
                f"{model_name(ranker, SUMMARY_CACHE)}: expected {expected} lookups by its metrics, got "
                f"{counted.total()}; {NOBODY_ELSE}"
            )


def since(now: Mapping[str, Served], before: Mapping[str, Served]) -> dict[str, Served]:
    """What each model served in between."""
    nothing = Served(0, 0, 0)
    return {name: served.since(before.get(name, nothing)) for name, served in now.items()}
