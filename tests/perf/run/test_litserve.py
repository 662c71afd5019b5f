from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from cleave.builders.predict.arms import LITSERVE
from cleave.perf.arms import Request, arm_named
from cleave.perf.bench import Options, run_bench
from cleave.perf.errors import PerfError
from cleave.perf.run.litserve import LitServeServer
from cleave.perf.run.prepare import warm_up
from cleave.perf.run.turn import Plan
from cleave.perf.workload.traffic import Messages, Traffic
from cleave.perf.workload.workload import workload_from_dict
from tests.perf.workload.test_workload import CONTENT

REQUESTS = tuple(
    Request({"history_items": np.arange(3)}, {}, {"candidate_items": np.array([first, first + 1])})
    for first in range(5)
)
TRAFFIC = Traffic(REQUESTS, (False,) * len(REQUESTS))


class Items(BaseHTTPRequestHandler):
    """Gives the candidates' ids back as their scores; refuses the candidate 100, and has no JSON for 200."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[list[int]]] = []

    def do_POST(self) -> None:
        items = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["candidate_items"]
        self.asked.append(items)
        body = b"no JSON" if 200 in items else json.dumps(items).encode()
        self.send_response(500 if 100 in items else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LitServeServer]:
    """A server of the same protocol, in this process."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    with ThreadingHTTPServer(("127.0.0.1", 0), Items) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        found = LitServeServer("append")
        found.port = http.server_address[1]
        yield found
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_every_request_is_sent_once_and_timed(server: LitServeServer, concurrency: int) -> None:
    turn = server.turn(TRAFFIC, concurrency)
    assert (turn.requests, len(turn.latencies_ms), turn.candidates) == (5, 5, 10)
    assert 0 < max(turn.latencies_ms) <= turn.seconds * 1000


def test_scores_are_in_the_order_of_the_candidates(server: LitServeServer) -> None:
    np.testing.assert_array_equal(server.scores(REQUESTS[3]), [3, 4])


def test_an_answer_is_not_read_while_it_is_timed(server: LitServeServer) -> None:
    request = Request({}, {}, {"candidate_items": np.array([200])})
    assert server.turn(Traffic((request,), (False,)), 1).requests == 1


def test_every_shape_is_warmed_up_but_the_first_that_parity_asked_for(server: LitServeServer) -> None:
    requests = [
        Request({"history_items": np.arange(events)}, {}, {"candidate_items": np.arange(candidates)})
        for events, candidates in ((4, 2), (4, 2), (4, 1), (8, 2), (8, 2))
    ]
    traffic = Traffic(tuple(requests), (False,) * len(requests))
    plan = Plan(arm_named(LITSERVE), traffic, Messages(Path(), 1, (1,) * len(requests)), None, 1, 1)
    Items.asked.clear()
    warm_up("", "append", [plan], server)
    assert Items.asked == [[0], [0, 1]]


@pytest.mark.parametrize(
    ("change", "url", "message"),
    [
        ({}, "host:8001", "expected no --url, .*, got host:8001; leave one of them out"),
        ({"rate_per_s": 5}, None, "expected a workload without rate_per_s, got one"),
    ],
)
def test_what_it_cannot_do_is_refused_first(
    change: dict[str, Any], url: str | None, message: str, tmp_path: Path
) -> None:
    workload = workload_from_dict("test", {**CONTENT, "arms": ["single_pass", "litserve"], **change})
    with pytest.raises(PerfError, match=f"^arm 'litserve': {message}"):
        run_bench(workload, Options(tmp_path, "cleave bench test", url))


def test_a_refused_request_stops_the_turn(server: LitServeServer) -> None:
    refused = Request({}, {}, {"candidate_items": np.array([100])})
    with pytest.raises(PerfError, match=r"litserve: expected 1 answers, got 0: .*status 200, got 500"):
        server.turn(Traffic((refused,), (False,)), 1)


def test_without_the_package_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PerfError, match=r"arm 'litserve': expected the package litserve.*pip install 'litserve"):
        LitServeServer("append")


def test_of_a_server_that_does_not_start_the_last_words_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    lines = "\\n".join(f"line {number}" for number in range(100))
    command = ["python", "-c", f"import sys; print('{lines}'); sys.exit('no such model')"]
    monkeypatch.setattr(LitServeServer, "command", command)
    server = LitServeServer("append")
    with pytest.raises(PerfError, match=r"expected a server that is ready, got none; (.|\n)*line 99\nno such model$"):
        server.__enter__()
