"""The console command: each package contributes its subcommands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import cleave.builders.commands
import cleave.builders.training.commands
import cleave.builders.training.rank_command
import cleave.perf.commands
import cleave.perf.reliability_commands
import cleave.serving.commands
from cleave import DISTRIBUTION
from cleave.builders.errors import BuilderError, CheckError
from cleave.clients.errors import RankerError
from cleave.perf.errors import PerfError, ScoresDifferError
from cleave.serving.errors import ServingError

EXIT_CHECK_FAILED = 1
EXIT_WRONG_USE = 2
EXIT_INTERRUPTED = 130

PACKAGES = ("torch", "onnx", "onnxruntime", "nvidia-pytriton", "tritonclient")
"""What decides about a build and a server, besides this distribution; the fourth carries a tritonserver."""


class _Version(argparse.Action):
    """Prints versions, which are looked up only when they are asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any, **options: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - other commands ask for none

        for package in (DISTRIBUTION, *PACKAGES):
            try:
                print(package, version(package))
            except PackageNotFoundError:
                print(package, "not installed")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The whole command line; the set of options is frozen by a test."""
    top = argparse.ArgumentParser(
        prog="cleave",
        description="Cut a PyTorch ranking model where the user ends and the candidate begins, and serve it on Triton.",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show versions and exit")
    commands = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for place in (
        cleave.builders.commands,
        cleave.builders.training.commands,
        cleave.serving.commands,
        cleave.builders.training.rank_command,
        cleave.perf.commands,
        cleave.perf.reliability_commands,
    ):
        place.add_commands(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Results go to stdout, progress and errors to stderr; 0 done, 1 a check failed, 2 wrong use."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except KeyboardInterrupt:
        print(f"cleave {options.command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever reads the output has enough of it, as `head` does; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == cleave.__name__:
            raise
        print(
            f"cleave {options.command}: Python package {error.name!r} is not installed; install {cleave.DISTRIBUTION} "
            f"with its extra `{cleave.EXTRA}`, as in {cleave.DISTRIBUTION}[{cleave.EXTRA}]",
            file=sys.stderr,
        )
        return EXIT_WRONG_USE
    except (CheckError, ScoresDifferError) as error:
        print(f"cleave {options.command}: {error}", file=sys.stderr)
        return EXIT_CHECK_FAILED
    except (BuilderError, PerfError, RankerError, ServingError) as error:
        print(f"cleave {options.command}: {error}", file=sys.stderr)
        return EXIT_WRONG_USE
    return code
