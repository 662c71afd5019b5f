"""Writes figures and tables as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

UNITS = ("", "k", "M", "G", "T", "P")
BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def choice(names: Iterable[str]) -> str:
    """`a, b or c`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def quantity(count: float) -> str:
    """A count with a decimal prefix, as `1.38 G`; a unit may follow."""
    unit = 0
    while abs(count) >= 1000 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {UNITS[unit]}"


def byte_quantity(count: float) -> str:
    """A number of bytes with its unit, as `3.0 MiB`."""
    unit = 0
    while count >= 1024 and unit < len(BYTE_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {BYTE_UNITS[unit]}" if unit == 0 else f"{count:.1f} {BYTE_UNITS[unit]}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown."""
    from tabulate import tabulate  # noqa: PLC0415 - the command line, which formats help texts, does without it

    return tabulate(list(rows), list(head), tablefmt="github", disable_numparse=True)


def text_table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str | None = None) -> str:
    """A table for a terminal, with a line under its head.

    Args:
        align: `l` or `r` for each column; by default the first column is aligned to the left, the others to the right.
    """
    from tabulate import tabulate  # noqa: PLC0415 - as above

    sides = {"l": "left", "r": "right"}
    columns = [sides[side] for side in align or "l" + "r" * (len(head) - 1)]
    return tabulate(list(rows), list(head), tablefmt="simple", disable_numparse=True, colalign=columns)
