"""The subcommands of `builders`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import builders.training.commands
from builders import inspect_commands
from builders.build_commands import add_build

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: Subparsers) -> None:
    """Add the subcommands; each sets `run`, a function from the parsed options to an exit code."""
    inspect_commands.add_commands(commands)
    add_build(commands)
    _add_catalogue(commands)
    builders.training.commands.add_commands(commands)


def _add_catalogue(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "catalogue",
        help="write the films of MovieLens as a catalogue",
        description="Write the films of MovieLens as parquet, as `cleave build --catalogue` reads it.",
    )
    parser.add_argument("out", type=Path, metavar="FILE", help="the parquet file")
    parser.add_argument("--data", type=Path, metavar="PATH", help="a GroupLens folder (default: MovieLens-100k)")
    parser.set_defaults(run=_catalogue)


def _catalogue(options: argparse.Namespace) -> int:
    from builders import catalogue  # noqa: PLC0415 - polars is slow to import
    from builders.training import data  # noqa: PLC0415

    movielens = data.load(options.data)
    catalogue.write_catalogue(options.out, movielens.candidate_inputs())
    print(f"wrote {movielens.num_items:,} films of {movielens.name} to {options.out}")
    return 0
