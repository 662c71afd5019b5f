"""The subcommands of `builders`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cleave.builders.commands import build, inspect

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: Subparsers) -> None:
    """Add the subcommands; each sets `run`, a function from the parsed options to an exit code."""
    inspect.add_commands(commands)
    build.add_build(commands)
