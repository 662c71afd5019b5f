"""The subcommands of `perf`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builders.spec import Ranker
    from perf.arms import Request
    from perf.claims import Claim
    from perf.measure import ArmResult

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DEMO_USER = 42


def add_commands(commands: Subparsers) -> None:
    """Add the subcommands; each sets `run`, a function from the parsed options to an exit code."""
    _add_bench(commands)
    _add_demo(commands)


def _add_bench(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "bench",
        help="compare the arms of a model on one server",
        description="Time every arm of built models on the same server, in turn, on one random request, after checking "
        "that all arms give the same scores.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--models", nargs="+", metavar="NAME", help="zoo models, built before")
    what.add_argument(
        "--claims", action="store_true", help="measure what the papers claim of their models instead, in process"
    )
    what.add_argument(
        "--cache", action="store_true", help="measure what hits of the summary cache cost instead, beside misses too"
    )
    parser.add_argument("--size", default="", metavar="NAME=N,...", help="their sizes, as given to `cleave build`")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="which arms (default: all)")
    parser.add_argument("--history", type=int, metavar="N", help="events (default: the axis' opt)")
    parser.add_argument("--candidates", type=int, metavar="M", help="candidates (default: the axis' opt)")
    parser.add_argument("--rounds", type=int, default=3, metavar="K", help="turns of each arm (default: 3)")
    parser.add_argument("--repository", type=Path, metavar="DIR", help="default: where `cleave build` writes")
    parser.add_argument("--url", metavar="HOST:PORT", help="a running server (default: start one)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    if options.claims:
        from perf.claims import check_claims  # noqa: PLC0415 - torch is slow to import

        return _exit_code(check_claims())
    from builders import sources  # noqa: PLC0415 - torch is slow to import

    if options.cache:
        from perf.cache_claims import SIZES, check_cache  # noqa: PLC0415

        return _exit_code(check_cache({**SIZES, **sources.parse_sizes(options.size)}, options.rounds))
    from builders.repository import repository_folder  # noqa: PLC0415
    from perf.arms import ARM_NAMES, Arms  # noqa: PLC0415
    from perf.measure import measure, table  # noqa: PLC0415
    from perf.server import server_with_store  # noqa: PLC0415

    sizes = sources.parse_sizes(options.size)
    results: dict[str, list[ArmResult]] = {}
    for name in options.models:
        ranker = sources.load_ranker(name, sizes)
        request, at = _random_request(ranker, options)
        with ExitStack() as stack:
            url = options.url
            if url is None:
                repository = options.repository or repository_folder(name, sizes)
                url = stack.enter_context(server_with_store(repository, ranker.name)).grpc_url
            arms = stack.enter_context(Arms(url, ranker.name, options.arms or ARM_NAMES))
            results[name] = measure(arms.functions, request, options.rounds)
        if not options.json:
            print(f"{name}: {', '.join(f'{axis} {size:,}' for axis, size in at.items())}")
            print(table(results[name]), flush=True)
    if options.json:
        print(json.dumps({name: [dataclasses.asdict(r) for r in rows] for name, rows in results.items()}, indent=2))
    return 0


def _exit_code(claims: Iterable[Claim]) -> int:
    """Print each claim when it is measured; 1 if one does not hold."""
    failed = 0
    for claim in claims:
        print(claim, flush=True)
        failed |= not claim.holds
    return int(failed)


def _random_request(ranker: Ranker, options: argparse.Namespace) -> tuple[Request, dict[str, int]]:
    import numpy as np  # noqa: PLC0415

    from builders.commands import given_sizes  # noqa: PLC0415
    from builders.draw import draw_inputs  # noqa: PLC0415
    from perf.arms import Request  # noqa: PLC0415

    at = ranker.sizes("opt", **given_sizes(ranker, options))
    arrays = {name: array[0] for name, array in draw_inputs(ranker, at, 1, np.random.default_rng(0)).items()}
    user, request, candidates = (
        {tensor.name: arrays[tensor.name] for tensor in tensors}
        for tensors in (ranker.user, ranker.request, ranker.candidate)
    )
    return Request(user, request, candidates), at


def _add_demo(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "demo",
        help="build, serve, rank for a real user and compare the arms",
        description="Build a model, serve it on free ports, rank the MovieLens catalogue for a user, and compare the "
        "arms on that user.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", default="append", help="a zoo model (default: append)")
    parser.add_argument("--user", type=int, default=DEMO_USER, metavar="ID", help=f"default: {DEMO_USER}")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="films to print (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, metavar="K", help="turns of each arm (default: 3)")
    parser.add_argument("--data", type=Path, metavar="PATH", help="a GroupLens folder (default: MovieLens-100k)")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from perf.demo import run_demo  # noqa: PLC0415

    return run_demo(options.name, options.user, options.top, options.rounds, options.data)
