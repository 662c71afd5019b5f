"""The subcommands that try to break a server."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from cleave.perf.fuzz.report import FuzzReport
    from cleave.perf.soak.report import SoakReport

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


T = TypeVar("T", int, float)


def add_commands(commands: Subparsers) -> None:
    """Add the subcommands; each sets `run`, a function from the parsed options to an exit code."""
    _add_soak(commands)
    _add_fuzz(commands)


def _add_soak(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "soak",
        help="serve and rank for long while parts of the server are killed, and compare every score with torch",
        description="Serve a small model, let sync and asyncio clients rank for users with growing histories, kill "
        "parts of the server and clients at random moments of the second half, compare every answer with the torch "
        "module and watch memory, files, threads and shared memory. Exit code 1 if a bound is broken.",
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=_above_zero(float), metavar="M", help="how long the clients ask")
    length.add_argument("--requests", type=_above_zero(int), metavar="N", help="how many requests they make")
    _add_seed(parser)
    _add_out(parser)
    parser.set_defaults(run=_soak)


def _soak(options: argparse.Namespace) -> int:
    from cleave.perf.soak.soak import SoakOptions, run_soak  # noqa: PLC0415 - torch is slow to import

    seconds = None if options.minutes is None else 60 * options.minutes
    soak = SoakOptions(seconds=seconds, requests=options.requests, seed=options.seed, command=_command())
    return _told(run_soak(soak), options.out)


def _add_fuzz(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "fuzz",
        help="send mutated requests to a server, and mutate what its store keeps",
        description="Serve a small model and send it mutated requests over gRPC and HTTP, and mutate the summaries in "
        "its store. Exit code 1 if a result is neither an answer nor an error that names its cause, if a process of "
        "the server ends, or if a right request in between is not answered.",
    )
    parser.add_argument(
        "--requests", type=_above_zero(int), required=True, metavar="N", help="how many requests are tried"
    )
    _add_seed(parser)
    _add_out(parser)
    parser.set_defaults(run=_fuzz)


def _fuzz(options: argparse.Namespace) -> int:
    from cleave.perf.fuzz.fuzz import FuzzOptions, run_fuzz  # noqa: PLC0415 - torch is slow to import

    return _told(run_fuzz(FuzzOptions(options.requests, options.seed, _command())), options.out)


def _told(report: SoakReport | FuzzReport, out: Path | None) -> int:
    """Print a report, and write it if that is asked for; 1 if a bound is broken."""
    from cleave.builders.files import write_text  # noqa: PLC0415 - other commands do without it

    print(report.to_markdown())
    if out is not None:
        write_text(out, report.to_markdown())
    return int(not all(bound.holds for bound in report.bounds))


def _command() -> str:
    return shlex.join(["cleave", *sys.argv[1:]])


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there as well, as Markdown")


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is random (default: 0)")


def _above_zero(kind: type[T]) -> Callable[[str], T]:
    def parsed(text: str) -> T:
        value = kind(text)
        if not value > 0:
            raise ValueError(text)
        return value

    parsed.__name__ = f"{kind.__name__} above 0"  # what argparse calls it in its refusal
    return parsed
