"""The report of a soak: what was counted, what had to hold, and what did not."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cleave.builders.formatting import byte_quantity, markdown_table
from cleave.perf.bound import Bound
from cleave.perf.machine.environment import HostDescription
from cleave.perf.soak.outages import RECONNECT_S, Outage
from cleave.perf.soak.people import LONGEST, POOL, USERS
from cleave.perf.soak.server import MODEL, SIZES
from cleave.perf.soak.tally import Failure, Tally
from cleave.perf.soak.watch import Growth

WHOLE_AGAIN_S = 20.0
"""The longest time that a part may be missing."""
LEAST_GROWTH_S = 240.0
"""A server that was watched for less says nothing of its growth."""
WHOLE_S, WHOLE_REQUESTS = 3600.0, 1_000_000
"""A soak of this time or of so many requests is a whole one; a report says if it is of less."""
MOST_WRONG = 10
"""Wrong answers that are shown."""


@dataclass(frozen=True, kw_only=True)
class SoakReport:
    """What a soak was made with, and what it saw."""

    command: str
    seed: int
    source: str
    """The version that was tried."""
    machine: HostDescription
    load_average: tuple[float, float]
    """Before and after."""
    started: str
    seconds: float
    tally: Tally
    outages: tuple[Outage, ...]
    lost: int
    crashed: int
    under_way_when_killed: int
    growth: tuple[Growth, ...]
    growth_seconds: float
    left: tuple[str, ...]
    """What was there after the server was stopped."""

    @property
    def unexcused(self) -> list[Failure]:
        """Failures that no caller can repeat, or while nothing was missing."""
        return [failure for failure in self.tally.failures if not (failure.retryable and self._in_outage(failure))]

    @property
    def bounds(self) -> list[Bound]:
        """What had to hold."""
        longest = max((outage.seconds for outage in self.outages), default=0.0)
        growing = [growth.part for growth in self.growth if not growth.is_flat]
        bounds = [
            Bound("wrong scores", len(self.tally.wrong), 0),
            Bound("requests without an answer or an error", self.lost + self.tally.late, 0),
            Bound("failures that are not retryable, or while nothing was missing", len(self.unexcused), 0),
            Bound("clients that ended by themselves", self.crashed, 0),
            Bound("longest time until all was there again, in seconds", round(longest, 1), WHOLE_AGAIN_S),
            Bound("kills after which the server did not come back by itself", self._not_back, 0),
            Bound("processes, folders and shared memory that outlived the server", len(self.left), 0),
        ]
        if self.growth_seconds >= LEAST_GROWTH_S:
            bounds.append(Bound("processes that grew", len(growing), 0))
        return bounds

    @property
    def _not_back(self) -> int:
        return sum(not outage.whole_by_itself for outage in self.outages)

    def _in_outage(self, failure: Failure) -> bool:
        return any(outage.overlaps(failure.sent, failure.ended) for outage in self.outages)

    def to_markdown(self) -> str:
        """The whole report."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        tally, (before, after) = self.tally, self.load_average
        yield "# Reliability\n"
        yield f"    {self.command}\n"
        yield textwrap.fill(
            f"A soak of {self.seconds / 60:,.1f} minutes and {tally.ended:,} requests against `cleave serve`, whose "
            f"parts and clients were killed {len(self.outages)} times, all in its second half. Version {self.source}, "
            f"seed {self.seed}, from {self.started}; {self.machine.processor}, {self.machine.cores} cores, "
            f"{byte_quantity(self.machine.memory_bytes)}; load average {before:.1f} before and {after:.1f} after.",
            120,
        )
        yield ""
        yield textwrap.fill(
            f"The model is `{MODEL}` with {', '.join(f'{name} {value}' for name, value in SIZES.items())}. Callers, "
            f"half of them sync and half asyncio, draw {USERS} users by Zipf's law, whose histories grow event by "
            f"event up to {LONGEST} events, and rank up to {POOL} candidates. They send the history or the id alone, "
            "or forget the user. Every score of every answer is compared with those of the torch module.",
            120,
        )
        if self.seconds < WHOLE_S and tally.ended < WHOLE_REQUESTS:
            yield ""
            yield f"A whole soak is one hour or {WHOLE_REQUESTS:,} requests: this one was shorter, and says less."
        yield from ("", "## What had to hold", "")
        yield markdown_table(["", "counted", "at most", ""], [bound.cells for bound in self.bounds])
        yield from self._wrong_lines()
        yield from ("", "## Requests", "")
        yield markdown_table(["", "requests"], self._request_rows())
        yield from ("", "## Failures", "")
        yield textwrap.fill(
            "A kill lasts until all processes are there again and a new user gets right scores, and for clients "
            f"{RECONNECT_S:g} s longer, in which they find the server again.",
            120,
        )
        yield ""
        yield markdown_table(["error", "retryable", "during a kill", "requests", "for example"], self._failure_rows())
        yield from ("", "## Kills", "")
        yield markdown_table(["part", "kills", "median", "longest", "failed requests"], self._outage_rows())
        yield from ("", "## Growth", "", f"In {self.growth_seconds / 60:.1f} minutes of the first half, without kills:")
        yield from ("", markdown_table(["process", "private memory", "", "files", "threads", "shared regions"],
                                       [_growth_cells(growth) for growth in self.growth]))  # fmt: skip
        yield from (f"- {left} was there after the server was stopped" for left in self.left)

    def _wrong_lines(self) -> Iterator[str]:
        yield from ("", *(f"- {wrong}" for wrong in self.tally.wrong[:MOST_WRONG])) if self.tally.wrong else ()

    def _request_rows(self) -> Iterator[Sequence[str]]:
        tally = self.tally
        yield "answered, each compared with torch", f"{tally.answered:,}"
        yield from (
            (f"whose summary was: {status or 'none'}", f"{count:,}") for status, count in tally.statuses.most_common()
        )
        yield "with an older history by id alone, as the store could not keep the newer one", f"{tally.behind:,}"
        yield "failed", f"{len(tally.failures):,}"
        yield "of clients when they were killed", f"{self.under_way_when_killed:,}"

    def _failure_rows(self) -> Iterator[Sequence[str]]:
        def kind_of(failure: Failure) -> tuple[str, bool, bool]:
            return failure.kind, failure.retryable, self._in_outage(failure)

        counts = Counter(kind_of(failure) for failure in self.tally.failures)
        examples = {kind_of(failure): failure.words for failure in reversed(self.tally.failures)}
        for kind, count in counts.most_common():
            words = textwrap.shorten(examples[kind].replace("|", "/"), 160)
            yield kind[0], _yes(kind[1]), _yes(kind[2]), f"{count:,}", words

    def _outage_rows(self) -> Iterator[Sequence[str]]:
        for part in sorted({outage.part for outage in self.outages}):
            outages = [outage for outage in self.outages if outage.part == part]
            times = sorted(outage.seconds for outage in outages)
            failed = sum(
                any(outage.overlaps(failure.sent, failure.ended) for outage in outages)
                for failure in self.tally.failures
            )
            yield part, str(len(times)), f"{times[len(times) // 2]:.1f} s", f"{times[-1]:.1f} s", f"{failed:,}"


def _growth_cells(growth: Growth) -> Sequence[str]:
    first, last = growth.private_bytes
    counts = (growth.files, growth.threads, growth.regions)
    return [
        growth.part,
        f"{byte_quantity(first)} to {byte_quantity(last)}",
        f"{growth.private_share:+.1%}",
        *(f"{start:g} to {end:g}" for start, end in counts),
    ]


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
