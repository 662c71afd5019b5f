"""The optional arm `litserve`: the same model and traffic, in the same run, through a plain Python server, not Triton.

perf_analyzer does not speak its protocol, so requests are sent from here, over connections that are kept open.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from cleave.builders.predict.arms import LITSERVE
from cleave.perf.arms import Array, RankRequest
from cleave.perf.errors import PerfError
from cleave.perf.run.arm_plan import ArmPlan, Measurement
from cleave.serving.server.ports import LOOPBACK, Ports, choose_ports

START_TIMEOUT_S = 300.0
REQUEST_TIMEOUT_S = 600.0
POLL_S = 0.2
LOG_LINES = 20
"""The last lines of the log that the error of a server that does not start shows."""


class LitServeServer:
    """A LitServe process that serves one model, from `__enter__` to `__exit__`.

    Raises:
        PerfError: the package is not installed, or the server does not start.
    """

    def __init__(self, name: str, size: str = "") -> None:
        if importlib.util.find_spec(LITSERVE) is None:
            raise PerfError(
                f"arm {LITSERVE!r}: expected the package litserve, got none; run `pip install 'litserve>=0.2.10,<1'`, "
                "or leave the arm out with --arms"
            )
        self.name, self.size = name, size
        self.port = choose_ports(LOOPBACK, Ports()).http
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        words = ["python", "-m", "cleave.perf.run.litserve_server", self.name, "--port", str(self.port)]
        return words + ["--size", self.size] * bool(self.size)

    def __enter__(self) -> LitServeServer:
        self._log = tempfile.TemporaryFile(prefix="cleave-litserve-")
        self._process = subprocess.Popen(
            [sys.executable, *self.command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])},
            start_new_session=True,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):  # it ended by itself
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if self._log is not None:
            self._log.close()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        assert self._log is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=1)
                connection.request("GET", "/health")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return
            except (OSError, http.client.HTTPException):
                pass  # it is not listening yet
            finally:
                connection.close()
            time.sleep(POLL_S)
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()[-LOG_LINES:] or ["nothing"]
        raise PerfError(
            f"{' '.join(self.command)}: expected a server that is ready, got none; correct the error in its log, or "
            "leave the arm out with --arms:\n" + "\n".join(lines)
        )


@dataclass(frozen=True)
class LitServePlan(ArmPlan):
    """The arm that LitServe serves; `concurrency` requests are under way at a time."""

    server: LitServeServer
    concurrency: int

    def scores(self, request: RankRequest) -> list[Array]:
        connection = http.client.HTTPConnection(LOOPBACK, self.server.port, timeout=REQUEST_TIMEOUT_S)
        try:
            return [np.asarray(json.loads(_answer(connection, _body(request))), np.float32)]
        finally:
            connection.close()

    def measure(self) -> Measurement:
        bodies = [_body(request) for request in self.traffic.requests]
        times = _times(bodies, self.concurrency, self.server.port)
        return Measurement(
            arm=self.arm.name,
            requests=len(bodies),
            messages=len(bodies),
            candidates=self.traffic.num_candidates,
            seconds=max(end for _, end in times) - min(start for start, _ in times),
            latencies_ms=[(end - start) * 1e3 for start, end in times],
            hit_rate=None,
            stages_ms={},
        )


def _body(request: RankRequest) -> bytes:
    """A request as a plain client sends it: JSON with a list for each input, without padding."""
    arrays = {**request.history, **request.request, **request.candidates}
    return json.dumps({name: np.asarray(array).tolist() for name, array in arrays.items()}).encode()


def _answer(connection: http.client.HTTPConnection, body: bytes) -> bytes:
    """The answer as bytes: perf_analyzer does not decode the answers of the other arms either."""
    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise PerfError(f"{LITSERVE}: expected status 200, got {answer.status}: {text[:200]!r}; see the model")
    return text


def _times(bodies: Sequence[bytes], concurrency: int, port: int | None) -> list[tuple[float, float]]:
    """When each request was sent and answered, in seconds; each of `concurrency` threads has its own connection."""
    waiting = iter(bodies)
    lock = threading.Lock()
    times: list[tuple[float, float]] = []
    failures: list[BaseException] = []

    def work() -> None:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=REQUEST_TIMEOUT_S)
        try:
            while True:
                with lock:
                    body = next(waiting, None)
                if body is None:
                    return
                start = time.perf_counter()
                _answer(connection, body)
                times.append((start, time.perf_counter()))
        except (OSError, http.client.HTTPException, PerfError) as error:
            failures.append(error)
        finally:
            connection.close()

    _together(work, concurrency)
    if failures or len(times) != len(bodies):
        raise PerfError(f"{LITSERVE}: expected {len(bodies)} answers, got {len(times)}: {failures[:1]}; run it again")
    return times


def _together(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
