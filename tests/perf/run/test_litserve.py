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
from cleave.perf.arms import RankRequest, arm_named
from cleave.perf.bench import BenchOptions, run_bench
from cleave.perf.errors import PerfError
from cleave.perf.run.litserve import LitServePlan, LitServeServer
from cleave.perf.run.prepare import warm_up
from cleave.perf.workload.traffic import Traffic
from cleave.perf.workload.workload import Point, workload_from_dict
from tests.perf.workload.test_workload import CONTENT

REQUESTS = tuple(
    RankRequest({"history_items": np.arange(3)}, {}, {"candidate_items": np.array([first, first + 1])})
    for first in range(5)
)


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


def plan_of(server: LitServeServer, *requests: RankRequest, concurrency: int = 1) -> LitServePlan:
    traffic = Traffic(requests, (False,) * len(requests))
    return LitServePlan(arm_named(LITSERVE), traffic, server, concurrency)


def point(concurrency: int) -> Point:
    (found,) = workload_from_dict("test", {**CONTENT, "history": 4, "concurrency": concurrency}).points()
    return found


@pytest.mark.parametrize("concurrency", [1, 3])
def test_every_request_is_sent_once_and_timed(server: LitServeServer, concurrency: int) -> None:
    measurement = plan_of(server, *REQUESTS, concurrency=concurrency).measure()
    assert (measurement.requests, len(measurement.latencies_ms), measurement.candidates) == (5, 5, 10)
    assert 0 < max(measurement.latencies_ms) <= measurement.seconds * 1000


def test_scores_are_in_the_order_of_the_candidates(server: LitServeServer) -> None:
    (scores,) = plan_of(server).scores(REQUESTS[3])
    np.testing.assert_array_equal(scores, [3, 4])


def test_an_answer_is_not_read_while_it_is_timed(server: LitServeServer) -> None:
    request = RankRequest({}, {}, {"candidate_items": np.array([200])})
    assert plan_of(server, request).measure().requests == 1


def test_every_shape_is_warmed_up_but_the_first_that_parity_asked_for(server: LitServeServer) -> None:
    requests = [
        RankRequest({"history_items": np.arange(events)}, {}, {"candidate_items": np.arange(candidates)})
        for events, candidates in ((4, 2), (4, 2), (4, 1), (8, 2), (8, 2))
    ]
    Items.asked.clear()
    warm_up([plan_of(server, *requests)], point(concurrency=1))
    assert Items.asked == [[0], [0, 1]]
    warm_up([plan_of(server, *requests)], point(concurrency=2))
    # Requests that can meet are all sent once more.
    assert len(Items.asked) == 2 + 2 + len(requests)


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
        run_bench(workload, BenchOptions(tmp_path, "cleave bench test", url))


def test_a_refused_request_stops_the_measurement(server: LitServeServer) -> None:
    refused = RankRequest({}, {}, {"candidate_items": np.array([100])})
    with pytest.raises(PerfError, match=r"litserve: expected 1 answers, got 0: .*status 200, got 500"):
        plan_of(server, refused).measure()


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
