from __future__ import annotations

from collections.abc import Sequence

import pytest

from cleave.serving.errors import ServingError
from cleave.serving.server.supervisor import MAX_RESTARTS, WITHIN_S, GivenUpError, Supervisor


class Server:
    """Has one fault after the other; a start that is an error fails with it."""

    def __init__(self, faults: Sequence[str | None] = (), starts: Sequence[ServingError] = ()) -> None:
        self.faults = list(faults)
        self.starts = list(starts)
        self.num_restarts = 0

    def fault(self) -> str | None:
        return self.faults.pop(0) if self.faults else None

    def restart(self) -> None:
        self.num_restarts += 1
        if self.starts:
            raise self.starts.pop(0)


def test_a_server_that_is_whole_is_left_alone() -> None:
    server, said = Server(), list[str]()
    Supervisor(server, said.append).keep_whole()
    assert (server.num_restarts, said) == (0, [])


def test_what_ended_is_named_and_started_anew() -> None:
    server, said = Server(["a process has ended"]), list[str]()
    Supervisor(server, said.append, clock=lambda: 0.0).keep_whole()
    assert server.num_restarts == 1
    assert said == ["a process has ended; Triton is started anew", "ready again after 0.0 s"]


def test_a_start_that_fails_is_tried_again() -> None:
    server, said = Server(["ended"], [ServingError("no memory")]), list[str]()
    Supervisor(server, said.append, clock=lambda: 0.0).keep_whole()
    assert server.num_restarts == 2
    assert said[1] == "no memory; Triton is started anew"


def test_a_server_that_ends_again_and_again_is_given_up() -> None:
    now = 0.0
    server = Server([f"fault {n}" for n in range(99)])
    supervisor = Supervisor(server, lambda line: None, clock=lambda: now)
    with pytest.raises(GivenUpError, match=rf"^given up after {MAX_RESTARTS} restarts .*; last: fault {MAX_RESTARTS}$"):
        supervisor.keep_whole()
    assert server.num_restarts == MAX_RESTARTS


def test_restarts_of_long_ago_do_not_count() -> None:
    now = 0.0
    server = Server()
    supervisor = Supervisor(server, lambda line: None, clock=lambda: now)
    for _ in range(3 * MAX_RESTARTS):
        server.faults = ["ended"]
        supervisor.keep_whole()
        now += WITHIN_S / MAX_RESTARTS
    assert server.num_restarts == 3 * MAX_RESTARTS
