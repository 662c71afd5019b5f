"""`cleave demo`: builds a model, serves it, ranks a catalogue for a real user and compares the arms on that user."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path

from cleave.builders.contract.location import DEFAULT_FOLDER
from cleave.builders.predict.arms import TRITON_ARMS
from cleave.perf.arms import ArmClient, RankRequest
from cleave.perf.demo_timing import measure, table
from cleave.perf.errors import PerfError


def run_demo(name: str, user: int, top: int, rounds: int, data_path: Path | None) -> int:
    """Every step is a command that can be run by itself, and is printed as one."""
    from cleave.builders.training import data as datasets  # noqa: PLC0415 - polars is slow to import
    from cleave.perf.run.server import keeps_summaries, server_with_store  # noqa: PLC0415

    data = datasets.load(data_path)
    row = data.row_of_user(user)
    _step(["build", name])
    with server_with_store(DEFAULT_FOLDER, name) as server:
        given = ["--url", server.grpc_url, *["--data", str(data_path)] * (data_path is not None)]
        rank = ["rank", name, "--user", str(user), *given]
        _step([*rank, "--top", str(top)])
        if keeps_summaries(server):
            _step([*rank, "--top", "3", "--by-id"])
        request = RankRequest(data.user_inputs(row), data.request_inputs(row), data.candidate_inputs())
        events = data.num_events(row)
        print(f"\n{name}: user {user} with {events} events, {request.num_candidates} candidates")
        with ExitStack() as stack:
            clients = [stack.enter_context(ArmClient(server.grpc_url, name, arm)) for arm in TRITON_ARMS.values()]
            print(table(measure({client.arm.name: client.scores for client in clients}, request, rounds)))
    return 0


def _step(command: list[str]) -> None:
    from cleave import cli  # noqa: PLC0415 - the command line imports this package

    print(f"\n$ cleave {shlex.join(command)}", flush=True)
    if code := cli.main(command):
        raise PerfError(f"`cleave {shlex.join(command)}`: expected exit code 0, got {code}; see above")
