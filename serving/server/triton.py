"""Starts a real Triton server on this machine, waits until it is ready, says why it is not, and stops it."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from cleave.serving.checked_files import checked_variable
from cleave.serving.errors import ServingError
from cleave.serving.limits import Limits
from cleave.serving.private_files import private_files
from cleave.serving.server.backend_processes import BackendProcess, backend_processes
from cleave.serving.server.drain import drain
from cleave.serving.server.engines import backend_flags
from cleave.serving.server.installation import Installation, assemble_backends, environment, find_installation
from cleave.serving.server.loaded_models import CheckedModels, check_models
from cleave.serving.server.log import failure_from_log, last_lines
from cleave.serving.server.ports import LOOPBACK, Ports, choose_ports
from cleave.serving.server.processes import shared_memory_of
from cleave.serving.server.served_folder import link_models
from cleave.serving.server.tls import ServerTls
from cleave.serving.variables import ENGINE_VARIABLE, GATE_VARIABLE

CLOSED_APIS = "model-repository,shared-memory,trace,logging"
"""Nobody decides what is loaded, mapped into memory or written to disk once the server has started."""

UNSENDABLE_HEADER = "closed\n=\n"
"""The name and value of the header that opens the closed APIs. Whoever may list processes can read it, and nobody can
send it: HTTP/1.1 and HTTP/2 have no header with a line break in its name, and Triton's servers refuse one unread."""

_DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys; PR_SET_PDEATHSIG = 1; "
    "ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM); os.execv(sys.argv[1], sys.argv[1:])"
)
EXIT_TIMEOUT_S = 10
"""For requests under way when the server is stopped; Triton never answers some requests of batch size 0."""
POLL_S = 0.02
MODELS = "models"
"""In the server's folder: see `cleave.serving.server.served_folder`."""
GATE = "gate"
"""Beside them: see `cleave.serving.gate`."""
ATTEMPTS = 3


class TritonServer:
    """A Triton process that serves models of one repository from `__enter__` to `__exit__`.

    Args:
        repository: the model repository.
        models: the models to load; an ensemble brings its steps along.
        host: the address to listen on.
        ports: where to listen; taken ones are refused.
        config_name: each model uses `configs/<config_name>.pbtxt` where it has that file.
        log: the file that gets the server's output; by default one that goes when the server stops.
        log_to_output: let the server write where this process does, and to no file.
        variables: further environment variables for the server and its backends.
        limits: how much it takes at a time.
        tls: encrypts gRPC and turns HTTP off; by default neither.
        verbose: let Triton log every step of every request.
        start_timeout_s: how long loading may take.
    """

    def __init__(
        self,
        repository: Path,
        models: Sequence[str],
        *,
        host: str = LOOPBACK,
        ports: Ports | None = None,
        config_name: str | None = None,
        log: Path | None = None,
        log_to_output: bool = False,
        variables: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        tls: ServerTls | None = None,
        verbose: bool = False,
        start_timeout_s: float = 300,
    ) -> None:
        self.repository = repository
        self.models = list(models)
        self.host = host
        self.asked_ports = ports or Ports()
        self.ports = self.asked_ports
        self.config_name = config_name
        self.variables = dict(variables or {})
        self.limits = limits or Limits()
        self.tls = tls
        self.verbose = verbose
        self.start_timeout_s = start_timeout_s
        self._asked_log = log
        self._log_to_output = log_to_output
        self._checked = CheckedModels((), (), (), {})
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._backends: list[BackendProcess] = []
        self._shared_memory: set[Path] = set()

    @property
    def grpc_url(self) -> str:
        return f"{self._reachable_host}:{self.ports.grpc}"

    @property
    def http_url(self) -> str:
        return f"http://{self._reachable_host}:{self.ports.http}"

    @property
    def metrics_url(self) -> str:
        return f"http://{self._reachable_host}:{self.ports.metrics}/metrics"

    @property
    def log(self) -> Path | None:
        """The file with the server's output; None where it goes to that of this process."""
        if self._log_to_output:
            return None
        if self._asked_log is not None:
            return self._asked_log
        assert self._folder is not None, "the server was not started"
        return self._folder / "log"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def _reachable_host(self) -> str:
        return LOOPBACK if self.host in ("", "0.0.0.0") else self.host

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return when it answers requests.

        Raises:
            ServingError: there is no tritonserver, a port is taken, a model does not load; with the reason.
            ManifestError: an artifact or an engine is missing, altered, foreign or of another build.
            HostError: engines are to be served, and there is no GPU.
        """
        self._checked = check_models(self.repository, self.models, self.config_name)
        installation = find_installation()
        try:
            for attempt in range(ATTEMPTS):
                self.ports = choose_ports(self.host, self.asked_ports)
                self._launch(installation)
                failure = self._wait_until_ready()
                if failure is None:
                    self._close_shared_memory()
                    assert self._folder is not None
                    self._backends = backend_processes(self.pid, self._folder / MODELS)
                    return
                # A port that was free when it was chosen may be taken by the time Triton listens.
                if "already in use" not in failure or attempt == ATTEMPTS - 1:
                    raise ServingError(failure)
                self.stop()
        except BaseException:
            self.stop()
            raise

    def restart(self) -> None:
        """Kill what is left of the server, and start it anew on the same ports; its log is kept as `<log>.1`.

        Nothing is waited for: what a server that is not whole still answers can be asked again.

        Raises:
            ServingError, ManifestError, HostError: as `start`.
        """
        self._end(signal.SIGKILL)
        if self._asked_log is not None:
            self._asked_log.replace(f"{self._asked_log}.1")
        self.asked_ports = self.ports
        self.start()

    def poll(self) -> int | None:
        """The exit code if the server ended, else None."""
        assert self._process is not None, "the server was not started"
        return self._process.poll()

    def fault(self) -> str | None:
        """What of the server has ended; None if it is whole, as far as its processes tell."""
        if self.poll() is not None:
            return self.failure()
        ended = [process for process in self._backends if process.has_ended()]
        return f"model {ended[0].model!r}: its process {ended[0].pid} has ended" if ended else None

    def failure(self) -> str:
        """Why the server ended, in the words of its log."""
        assert self._folder is not None, "the server was not started"
        # A file is named where the user has it, not where a link to it is.
        return failure_from_log(self.log, self.poll()).replace(str(self._folder / MODELS), str(self.repository))

    def drain(self, timeout_s: float) -> bool:
        """Refuse new requests as UNAVAILABLE, answer those under way, and stop; whether all were answered in time."""
        if self._process is None or self._folder is None:
            return True
        graphs = {artifact.parents[1].name for artifact in self._checked.artifacts}
        drained = drain(self._folder / GATE, self.metrics_url, timeout_s)
        # Where no process of ours runs a graph, Triton itself waits for the last of its requests. Else there is nothing
        # to wait for, and a Triton that ends by itself says NOT_FOUND while it unloads its models.
        in_triton = graphs - {process.model for process in self._backends}
        self._end(signal.SIGTERM if in_triton else signal.SIGKILL)
        return drained

    def stop(self) -> None:
        """Let requests under way finish, end the server and everything it started, and remove its folder."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, folder, self._process, self._folder = self._process, self._folder, None, None
        if process is not None:
            if process.poll() is None:
                self._shared_memory |= shared_memory_of(process.pid)
            try:
                process.send_signal(how)
                process.wait(EXIT_TIMEOUT_S + 10)
            except subprocess.TimeoutExpired:
                process.kill()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for region in self._shared_memory:
            region.unlink(missing_ok=True)  # a server that is killed, or stopped while it loads, leaves them behind

    def _prepare(self, installation: Installation) -> tuple[list[str], Path, dict[str, str]]:
        """The server's command, the folder it starts in, and its variables."""
        self._folder = Path(tempfile.mkdtemp(prefix="cleave-triton-"))
        assemble_backends(installation, self._folder / "backends")
        link_models(self._folder / MODELS, self.repository, self._checked.versions, self.limits)
        # The python backend imports `model` from the current folder first, so that is an empty one.
        empty = self._folder / "empty"
        empty.mkdir()
        (self._folder / GATE).mkdir()
        command = [str(installation.binary), *self._flags(installation)]
        engine = "tensorrt" if self._checked.engines else "onnxruntime"
        variables = {
            **environment(installation),
            **checked_variable(self._checked.artifacts),
            ENGINE_VARIABLE: engine,
            GATE_VARIABLE: str(self._folder / GATE),
            **self.limits.variables(),
            **self.variables,
        }
        return command, empty, variables

    def _launch(self, installation: Installation) -> None:
        command, folder, variables = self._prepare(installation)
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.unlink(missing_ok=True)  # one that others may read stays so when it is written to
        with private_files(), contextlib.nullcontext() if self.log is None else self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*_end_with_this_process(), *command],
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the server
            )

    def _flags(self, installation: Installation) -> Iterator[str]:
        assert self._folder is not None
        address = socket.gethostbyname(self.host)  # Triton's HTTP is deaf on a name
        yield f"--model-repository={self._folder / MODELS}"
        yield f"--backend-directory={self._folder / 'backends'}"
        yield f"--cache-directory={installation.caches}"
        yield "--model-control-mode=none"
        yield from [f"--model-config-name={self.config_name}"] * bool(self.config_name)
        yield from backend_flags(self._checked.engines)
        yield "--disable-auto-complete-config"
        yield "--exit-on-error=true"
        yield "--metrics-config=summary_latencies=true"
        yield f"--exit-timeout-secs={EXIT_TIMEOUT_S}"
        yield f"--grpc-restricted-protocol={CLOSED_APIS}:{UNSENDABLE_HEADER}"
        yield f"--http-restricted-api={CLOSED_APIS}:{UNSENDABLE_HEADER}"
        for service, port in self.ports.items():
            yield f"--{service}-address={address}"
            yield f"--{service}-port={port}"
        if self.tls is not None:
            yield from self.tls.flags()
        yield from ["--log-verbose=1"] * self.verbose

    def _wait_until_ready(self) -> str | None:
        """None once the server is ready, else why it will not be."""
        deadline = time.monotonic() + self.start_timeout_s
        while time.monotonic() < deadline:
            if self.poll() is not None:
                return self.failure()
            self._close_shared_memory()
            if self._is_ready():
                return None
            time.sleep(POLL_S)
        return (
            f"tritonserver: expected to be ready in {self.start_timeout_s:g} s, got no answer; {last_lines(self.log)}"
        )

    def _close_shared_memory(self) -> None:
        """Take the regions of the server away from other users: its Python backend opens each to all, whatever the
        umask says, as Boost.Interprocess does."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the server just ended
            self._shared_memory = shared_memory_of(self.pid)
            for region in self._shared_memory:
                region.chmod(0o600)

    def _is_ready(self) -> bool:
        """Ready over HTTP where that is on, and listening for metrics, which Triton does last."""
        try:
            if self.tls is None and not self._says_ready():
                return False
            socket.create_connection((self._reachable_host, self.ports.metrics), timeout=1).close()
        except (OSError, http.client.HTTPException):
            return False
        return True

    def _says_ready(self) -> bool:
        """Raises: OSError, HTTPException: it does not listen yet."""
        connection = http.client.HTTPConnection(self._reachable_host, self.ports.http, timeout=1)
        with contextlib.closing(connection):
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == http.HTTPStatus.OK


def _end_with_this_process() -> list[str]:
    """What runs the command behind it so that it is stopped even if this process is killed.

    Linux ties that to the thread which starts it, so only the main thread, which lives as long as the process, may.
    """
    if threading.current_thread() is not threading.main_thread():
        return []
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT]
