"""The server of a soak: `cleave serve` as an operator runs it, with its parts by name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from cleave.builders.names import CANDIDATE_SCORER, HISTORY_ENCODER, SUMMARY_CACHE, model_name
from cleave.clients import RankerClient, RankerError
from cleave.perf.soak.people import People
from cleave.perf.soak.processes import Process, processes_in
from cleave.serving.server.ports import LOOPBACK, Ports, choose_ports

MODEL = "append"
SIZES = {"layers": 1, "width": 16, "heads": 2}
"""A small model: what is tried is the serving, many times a second."""
STORE_SIZE = "64mb"
STOP_S = 30.0

SCORER, ENCODER, CACHE, TRITON, STORE, SERVE = "scorer", "encoder", "cache", "triton", "store", "serve"
BACKENDS = {
    SCORER: f"{model_name(MODEL, CANDIDATE_SCORER)}_",
    ENCODER: f"{model_name(MODEL, HISTORY_ENCODER)}_",
    CACHE: f"{model_name(MODEL, SUMMARY_CACHE)}_",
}
"""How the name begins that Triton gives to a backend's process, as the last but one of its arguments."""
PROGRAMS = {"tritonserver": TRITON, "valkey-server": STORE}


class ServeProcess:
    """`cleave serve` of a repository, in a process of its own, on ports that it keeps when it is started again.

    Args:
        repository: of `MODEL`.
        folder: the one of its temporary files, by which everything that it starts is known.
        store: options that say where it keeps summaries.
    """

    def __init__(self, repository: Path, folder: Path, store: tuple[str, ...] = ("--store-size", STORE_SIZE)) -> None:
        self._folder = folder
        self._ports = choose_ports(LOOPBACK, Ports())
        self._command = [
            *(sys.executable, "-m", "cleave", "serve", MODEL, "--repository", str(repository)),
            *store,
            *(word for service, port in self._ports.items() for word in (f"--{service}-port", str(port))),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of gRPC."""
        return f"{LOOPBACK}:{self._ports.grpc}"

    @property
    def http_host(self) -> str:
        """Of HTTP, with its port."""
        return f"{LOOPBACK}:{self._ports.http}"

    @property
    def output(self) -> Path:
        """What the command wrote, whenever it was started."""
        return self._folder / "serve.txt"

    def revive(self) -> None:
        """Start the command unless it runs."""
        if self._process is None or self._process.poll() is not None:
            with self.output.open("ab") as output:
                self._process = subprocess.Popen(
                    self._command,
                    cwd=self._folder,
                    env={**os.environ, "TMPDIR": str(self._folder)},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def answers_rightly(self, people: People, user: int, deadline: float, user_id: str | None = None) -> bool:
        """Whether a right request is answered with the scores of the torch module."""
        try:
            with RankerClient(self.url, MODEL) as client:
                return people.rank(client, user, deadline=deadline, user_id=user_id)[1]
        except RankerError:
            return False

    def stop(self) -> None:
        """End the command as an operator does, and whatever does not end by itself."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def parts(self) -> Mapping[str, list[Process]]:
        """Every process of the server by the name of its part; others have that of their program."""
        found: defaultdict[str, list[Process]] = defaultdict(list)
        for process in processes_in(self._folder):
            found[self._part_of(process)].append(process)
        return found

    def end_what_is_left(self) -> list[str]:
        """End processes that outlived the command, and tell their names."""
        left = [(name, process) for name, processes in self.parts().items() for process in processes]
        for _, process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return sorted(name for name, _ in left)

    def _part_of(self, process: Process) -> str:
        if self._process is not None and process.pid == self._process.pid:
            return SERVE
        for part, beginning in BACKENDS.items():
            if any(argument.startswith(beginning) for argument in process.arguments):
                return part
        return PROGRAMS.get(process.name, process.name)
