"""The subcommands of `perf`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cleave.builders.contract.location import parse_sizes, repository_folder
from cleave.builders.targets.registry import TARGETS
from cleave.options import add_built_sizes, add_data, add_json, add_model, add_repository, add_size, add_url_or_start

if TYPE_CHECKING:
    from cleave.perf.claims.claim import Claim

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DEMO_USER = 13
"""One of the users of MovieLens-100k with the longest histories: 636 ratings."""
DEMO_CANDIDATES = 256


def add_commands(commands: Subparsers) -> None:
    """Add the subcommands; each sets `run`, a function from the parsed options to an exit code."""
    _add_bench(commands)
    _add_verify(commands)
    _add_demo(commands)


def _add_bench(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure the arms of models by a workload",
        description="Check that all arms of each model give the same scores, measure them with perf_analyzer round by "
        "round on one server, and write a report. Exit code 1 if a threshold of the workload is missed.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("workload", metavar="WORKLOAD", nargs="?", help="a name, such as smoke, or a TOML file")
    what.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("A.json", "B.json"),
        help="compare two reports instead, and list what is slower in B than in A",
    )
    what.add_argument(
        "--claims", action="store_true", help="measure instead what the papers claim of their models, in this process"
    )
    what.add_argument(
        "--cache",
        action="store_true",
        help="measure instead what hits of the summary cache cost, alone and beside misses",
    )
    parser.add_argument("--models", nargs="+", metavar="NAME", help="other models than the workload's")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="other arms than the workload's")
    parser.add_argument("--rounds", type=int, metavar="K", help="measurements of each arm, instead of the workload's")
    add_size(parser, "the sizes of the models of --models or --cache")
    add_repository(parser)
    add_url_or_start(parser)
    parser.add_argument(
        "--metrics-url", metavar="URL", help="the metrics of the server of --url (default: port 8002 of the same host)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder of the report (default: .cleave/bench/WORKLOAD)"
    )
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    if options.claims:
        from cleave.perf.claims.papers import check_claims  # noqa: PLC0415 - torch is slow to import

        return _exit_code(check_claims())
    if options.compare:
        return _compare(*options.compare)
    if options.cache:
        from cleave.perf.claims.cache import SIZES, check_cache  # noqa: PLC0415

        return _exit_code(check_cache({**SIZES, **parse_sizes(options.size)}, options.rounds or 3))
    from cleave.perf.bench import DEFAULT_OUT, BenchOptions, run_bench  # noqa: PLC0415 - torch is slow to import
    from cleave.perf.report.files import write_report  # noqa: PLC0415
    from cleave.perf.report.markdown import markdown_from_report  # noqa: PLC0415
    from cleave.perf.run.rounds import forget_rounds  # noqa: PLC0415
    from cleave.perf.workload.workload import load_workload  # noqa: PLC0415

    workload = load_workload(options.workload).with_(options.models, options.size, options.arms, options.rounds)
    out = options.out or DEFAULT_OUT / workload.name
    command = shlex.join(["cleave", *sys.argv[1:]])
    report = run_bench(workload, BenchOptions(out, command, options.url, options.metrics_url, options.repository))
    files = write_report(report, out)
    forget_rounds(out)
    print(markdown_from_report(report))
    print(f"report: {', '.join(map(str, files))}")
    return int(not all(verdict.holds for verdict in report.thresholds))


def _compare(before: Path, after: Path) -> int:
    """Print what changed; 1 if anything is slower."""
    from cleave.perf.report.compare import compare, noise_is_known  # noqa: PLC0415
    from cleave.perf.report.files import read_report  # noqa: PLC0415

    reports = read_report(before), read_report(after)
    changes = list(compare(*reports))
    print("\n".join(map(str, changes)))
    if not noise_is_known(*reports):
        print(
            "cleave bench: a report of a single round says nothing about noise; measure with --rounds 3 or more",
            file=sys.stderr,
        )
    return int(any(change.slower for change in changes))


def _exit_code(claims: Iterable[Claim]) -> int:
    """Print each claim when it is measured; 1 if one does not hold."""
    failed = 0
    for claim in claims:
        print(claim, flush=True)
        failed |= not claim.holds
    return int(failed)


def _add_verify(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "verify",
        help="compare engines with ONNX Runtime, and served scores with torch",
        description="On a machine with a GPU: compare the engine of every part with ONNX Runtime, and the scores of a "
        "server of these engines with torch, on the inputs that prove a cut. Exit code 1 and the first output that "
        "differs if one does.",
    )
    add_model(parser)
    add_built_sizes(parser)
    verified = [name for name, target in TARGETS.items() if target.runner_from_file is not None]
    parser.add_argument(
        "--target", choices=verified, default=verified[0], help="whose engines are verified (default: %(default)s)"
    )
    add_repository(parser)
    add_url_or_start(parser)
    add_json(parser, "what was `verified`, and the `failure` that ended it, or null")
    parser.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    from cleave.builders.load import load_ranker  # noqa: PLC0415 - torch is slow to import
    from cleave.builders.targets.tensorrt.verify import VerifyError  # noqa: PLC0415
    from cleave.perf.verify import verify  # noqa: PLC0415

    sizes = parse_sizes(options.size)
    repository = options.repository or repository_folder(options.name, sizes)
    found, failure = [], None
    try:
        for each in verify(load_ranker(options.name, sizes), repository, TARGETS[options.target], options.url):
            found.append(each)
            print(each, file=sys.stderr if options.json else sys.stdout, flush=True)
    except VerifyError as error:
        failure = error
    if options.json:
        verified = [dataclasses.asdict(each) for each in found]
        print(json.dumps({"verified": verified, "failure": None if failure is None else str(failure)}, indent=2))
    if failure is not None:
        raise failure
    return 0


def _add_demo(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "demo",
        help="build, serve, rank for a real user and compare the arms",
        description="Build a model, serve it on free ports, rank the MovieLens catalogue for a user, and compare the "
        "arms on that user.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", default="append", help="a zoo model (default: append)")
    parser.add_argument("--user", type=int, default=DEMO_USER, metavar="ID", help=f"default: {DEMO_USER}")
    parser.add_argument(
        "--candidates",
        type=int,
        default=DEMO_CANDIDATES,
        metavar="M",
        help=f"films of the requests that are timed (default: {DEMO_CANDIDATES})",
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="films to print (default: 10)")
    parser.add_argument(
        "--rounds", type=int, default=3, metavar="K", help="rounds in which the arms take turns (default: 3)"
    )
    add_data(parser)
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from cleave.perf.demo import DemoOptions, run_demo  # noqa: PLC0415

    run_demo(DemoOptions(options.name, options.user, options.candidates, options.top, options.rounds, options.data))
    return 0
