"""Watches what the processes of a soak hold, and tells which of them grow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cleave.perf.soak.processes import Held, Process, held_by

MOST_GROWTH = 0.05
LEAST_BYTES = 2 << 20
"""A process that grew by less is flat, however small it is."""
MOST_MORE = 2
"""Threads, files and regions that a process may have more: a pool makes threads when it first needs them."""
ENDS = 0.2
"""The share of the samples at either end of a time that are compared."""


@dataclass(frozen=True)
class Growth:
    """What one process held at the beginning and the end of a time: medians of the samples of either end."""

    part: str
    private_bytes: tuple[float, float]
    files: tuple[float, float]
    threads: tuple[float, float]
    regions: tuple[float, float]
    """Regions of shared memory."""

    @property
    def private_share(self) -> float:
        """The memory that was added, as a share of that at the beginning."""
        first, last = self.private_bytes
        return last / first - 1

    @property
    def is_flat(self) -> bool:
        """Whether it grew by no more than the bounds."""
        first, last = self.private_bytes
        counts = (self.files, self.threads, self.regions)
        return (last - first <= max(LEAST_BYTES, MOST_GROWTH * first)) and all(
            end <= start + MOST_MORE for start, end in counts
        )


class Watch:
    """Samples of every process, by when they were taken."""

    def __init__(self) -> None:
        self._samples: defaultdict[Process, list[tuple[float, Held]]] = defaultdict(list)
        self._parts: dict[Process, str] = {}

    def sample(self, parts: Mapping[str, Iterable[Process]], now: float) -> None:
        """Take a sample of each process; `now` is by `time.monotonic`."""
        for part, processes in parts.items():
            for process in processes:
                held = held_by(process)
                if held is not None:
                    self._parts[process] = part
                    self._samples[process].append((now, held))

    @property
    def regions(self) -> set[Path]:
        """All shared memory that any process had."""
        return {region for samples in self._samples.values() for _, held in samples for region in held.regions}

    def growth(self, since: float, until: float) -> list[Growth]:
        """Of each process that was there all the time between two moments."""
        found = []
        for process, samples in self._samples.items():
            within = [held for moment, held in samples if since <= moment <= until]
            is_whole = samples[0][0] <= since and samples[-1][0] >= until
            if within and is_whole:
                num = max(1, round(ENDS * len(within)))
                found.append(_growth(self._parts[process], within[:num], within[-num:]))
        return sorted(found, key=lambda growth: growth.part)


def _growth(part: str, first: list[Held], last: list[Held]) -> Growth:
    def ends(figure: str) -> tuple[float, float]:
        start, end = ([getattr(held, figure) for held in samples] for samples in (first, last))
        return float(median(start)), float(median(end))

    regions = tuple(float(median(len(held.regions) for held in samples)) for samples in (first, last))
    return Growth(part, ends("private_bytes"), ends("files"), ends("threads"), (regions[0], regions[1]))
