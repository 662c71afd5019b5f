"""Figures and tables as people read them."""

from __future__ import annotations

import pytest

from cleave.builders.formatting import byte_quantity, markdown_table, quantity, text_table

HEAD = ("arm", "FLOPs", "depends on")
ROWS = [("cached", "1.5 G", "both"), ("a", "12 k", "")]


@pytest.mark.parametrize(("count", "expected"), [(0, "0 "), (999, "999 "), (1380, "1.38 k"), (2.5e9, "2.5 G")])
def test_quantities(count: float, expected: str) -> None:
    assert quantity(count) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 B"), (1023, "1023 B"), (3 << 20, "3.0 MiB"), (5 << 50, "5120.0 TiB")]
)
def test_quantities_of_bytes(count: float, expected: str) -> None:
    assert byte_quantity(count) == expected


def test_a_table_for_a_terminal() -> None:
    assert text_table(HEAD, ROWS, "lrl").splitlines() == [
        "arm       FLOPs  depends on",
        "------  -------  ------------",
        "cached    1.5 G  both",
        "a          12 k",
    ]
    assert text_table(HEAD, ROWS) == text_table(HEAD, ROWS, "lrr")


def test_a_table_of_markdown() -> None:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown_table(HEAD, ROWS).splitlines()]
    assert cells[0] == list(HEAD)
    assert cells[2:] == [list(row) for row in ROWS]


def test_figures_stay_as_they_are_written() -> None:
    assert "1.50" in text_table(("a", "b"), [("1.50", "007")])
    assert "007" in markdown_table(("a", "b"), [("1.50", "007")])
