"""The report of a run of mutated requests: results by kind, and what had to hold."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cleave.builders.formatting import markdown_table
from cleave.perf.bound import Bound
from cleave.perf.fuzz.tried import Tried


@dataclass(frozen=True, kw_only=True)
class FuzzReport:
    """What was tried, and what became of it."""

    command: str
    seed: int
    source: str
    seconds: float
    counts: Counter[Tried]
    """By kind: without words."""
    examples: tuple[tuple[int, Tried], ...]
    """Some of those that are not defined, with words, and the number of the request."""
    deaths: int
    """Processes of the server that ended."""
    refused: int
    """Right requests, one after each batch of mutated ones, that were not answered rightly."""

    @property
    def bounds(self) -> list[Bound]:
        """What had to hold."""
        undefined = sum(count for kind, count in self.counts.items() if not kind.is_defined)
        return [
            Bound("results that are neither an answer nor an error that names its cause", undefined, 0),
            Bound("processes of the server that ended", self.deaths, 0),
            Bound("right requests, one after each batch of mutated ones, that were not answered", self.refused, 0),
        ]

    def to_markdown(self) -> str:
        """The whole report."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from ("# Mutated requests", "", f"    {self.command}", "")
        total = self.counts.total()
        yield f"{total:,} in {self.seconds / 60:,.1f} minutes; version {self.source}, seed {self.seed}."
        yield from ("", markdown_table(["", "counted", "at most", ""], [bound.cells for bound in self.bounds]), "")
        kinds = sorted(self.counts.items(), key=lambda item: (item[0].way, item[0].mutation, -item[1]))
        rows = [(kind.way, kind.mutation, _result(kind), f"{count:,}") for kind, count in kinds]
        yield markdown_table(["mutated", "in", "result", "requests"], rows)
        yield ""
        for number, tried in self.examples:
            yield f"- {number}: {tried.way}, {tried.mutation}: {tried.result}: {textwrap.shorten(tried.words, 300)}"


def _result(kind: Tried) -> str:
    return kind.result if kind.is_defined else f"**{kind.result}**"
