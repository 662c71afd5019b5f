"""Reads what is written as tables, whatever the width of their columns."""

from __future__ import annotations


def markdown_rows(text: str) -> list[list[str]]:
    """The cells of every row of every table in a Markdown text, heads included, the lines under heads left out."""
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]
    return [cells for cells in rows if set("".join(cells)) - set("-:")]
