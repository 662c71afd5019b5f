"""The entry point as a container runs it, with a `tritonserver` that only says how it was started and waits."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleave.builders.names import model_names
from cleave.serving.server.ports import LOOPBACK, Ports, choose_ports
from tests.deploy.files import ENTRYPOINT, HEALTHCHECK, ROOT, stages
from tests.serving.links import served_from

PATIENCE_S = 20

TRITON = """#!/bin/bash
trap 'echo stopped >>"$LOG"; exit 0' TERM
printf '%s\\n' "parent $PPID" "$@" "store $CLEAVE_STORE" >"$LOG.partial"
mv "$LOG.partial" "$LOG"
while :; do sleep 0.02; done
"""

CLEAVE = f"""#!{sys.executable}
import os, signal, sys, time
from pathlib import Path
from cleave.builders.files import sha256_of
from cleave.builders.contract.manifest import Manifest, write_manifest

with open(os.environ["CALLS"], "a") as calls:
    print(*sys.argv[1:], file=calls)
command, source, *options = sys.argv[1:]
name = source.rpartition(":")[2]
if command != "build":
    os.execv(sys.executable, [sys.executable, "-m", "cleave", *sys.argv[1:]])
time.sleep(float(os.environ.get("BUILD_S", 0)))
if "FAILS" in os.environ:
    print("cleave build: no such model", file=sys.stderr)
    sys.exit(2)
for model in (name, name + "_whole"):
    version = Path(options[options.index("--out") + 1], model, "1")
    version.parent.mkdir(parents=True, exist_ok=True)
    (version.parent / "config.pbtxt").touch()
    if "KILLED" in os.environ and model != name:
        os.kill(os.getpid(), signal.SIGKILL)
    version.mkdir(exist_ok=True)
    (version / "model.onnx").write_text(name)
    sha256 = sha256_of(version / "model.onnx")
    write_manifest(version, Manifest(model, name, "f" * 64, "model.onnx", sha256, "cleave build " + name, {{}}))
"""


class Container:
    """A folder in which the entry point is run, with what it calls on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "volume"
        self.repository = self.folder / "model_repository"
        self.calls, self.log = folder / "calls", folder / "log"
        for part in (self.folder, folder / "triton" / "bin", folder / "triton" / "backends", folder / "bin"):
            part.mkdir(parents=True)
        for program, text in (
            (folder / "triton" / "bin" / "tritonserver", TRITON),
            (folder / "bin" / "cleave", CLEAVE),
        ):
            program.write_text(text)
            program.chmod(0o755)
        path = os.pathsep.join([str(folder / "bin"), str(folder / "triton" / "bin"), os.environ["PATH"]])
        ports = choose_ports(LOOPBACK, Ports())
        flags = " ".join(f"--{service}-port {port}" for service, port in ports.items())
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CLEAVE_")},
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder),
            "CALLS": str(self.calls),
            "LOG": str(self.log),
            "CLEAVE_MODELS": "one two",
            "CLEAVE_BUILD": "--precision float16",
            "CLEAVE_DEFAULT_BUILD": "--precision bfloat16",
            "CLEAVE_SERVE": f"--host {LOOPBACK} {flags}",
        }

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [ENTRYPOINT, *arguments],
            cwd=self.folder,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Exit code and output, where no server is to be started."""
        process = self.start(*arguments, **variables)
        output, errors = process.communicate(timeout=PATIENCE_S)
        assert not self.log.exists()
        return process.returncode, output + errors

    @contextlib.contextmanager
    def served(self, **variables: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
        """The process and what the server said of its start; afterwards it is told to stop."""
        self.log.unlink(missing_ok=True)
        process = self.start(**variables)
        deadline = time.monotonic() + PATIENCE_S
        try:
            while not self.log.exists():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process, self.log.read_text().splitlines()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.communicate()

    def built(self) -> list[str]:
        """The models that were built since the last time."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [call.split()[1] for call in calls if call.startswith("build ")]


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def test_a_first_start_builds_and_serves_and_a_second_only_serves(container: Container) -> None:
    with container.served(CLEAVE_STORE="redis://store:6379/0") as (process, said):
        assert said[0] == f"parent {process.pid}"  # which gets the container's signals, and watches
        assert said[-1] == "store redis://store:6379/0"
        flags = said[1:-1]
        (served,) = (each.partition("=")[2] for each in flags if each.startswith("--model-repository="))
        assert served_from(Path(served)) == {container.repository}
        assert sorted(folder.name for folder in Path(served).iterdir()) == ["one", "one_whole", "two", "two_whole"]
        assert {"--model-control-mode=none", "--disable-auto-complete-config", "--exit-on-error=true"} < set(flags)
        assert f"--http-address={LOOPBACK}" in flags
        for flag in ("--grpc-restricted-protocol", "--http-restricted-api"):
            assert sum(each.startswith(f"{flag}=model-repository,shared-memory,trace,logging:") for each in flags) == 1
    assert process.returncode == 0
    assert container.log.read_text().splitlines()[-1] == "stopped"
    assert container.calls.read_text().splitlines()[:2] == [
        f"build {name} --out model_repository --precision float16" for name in ("one", "two")
    ]
    assert container.built() == ["one", "two"]
    with container.served() as (_, said):
        assert said[-1] == "store "
    assert container.built() == []


def test_options_of_the_image_stand_for_those_that_are_not_given(container: Container) -> None:
    serve = {"CLEAVE_SERVE": "", "CLEAVE_DEFAULT_SERVE": container.environment["CLEAVE_SERVE"]}
    with container.served(CLEAVE_MODELS="one", CLEAVE_BUILD="", **serve) as (_, said):
        assert f"--http-address={LOOPBACK}" in said
    assert container.calls.read_text().splitlines()[0] == "build one --out model_repository --precision bfloat16"


def test_a_model_that_is_not_of_the_zoo_comes_with_its_source(container: Container) -> None:
    for built in (["/models/shop.py:three"], []):
        with container.served(CLEAVE_MODELS="three=/models/shop.py:three") as (_, said):
            (served,) = (each.partition("=")[2] for each in said if each.startswith("--model-repository="))
            assert "three" in os.listdir(served)
        assert container.built() == built


def test_a_source_without_a_name_is_refused(container: Container) -> None:
    code, said = container.run(CLEAVE_MODELS="one /models/shop.py:three")
    assert (code, container.built()) == (2, [])
    assert said.endswith("got /models/shop.py:three; write NAME=/models/shop.py:three\n")


def test_a_model_with_a_longer_name_is_another(container: Container) -> None:
    with container.served(CLEAVE_MODELS="one"):
        pass
    partly = container.repository / "one_whole_other"
    partly.mkdir()
    (partly / "config.pbtxt").touch()
    with container.served(CLEAVE_MODELS="one"):
        pass
    assert container.built() == ["one"]
    (parts,) = re.findall(r"for part in (.*); do", ENTRYPOINT.read_text())
    assert parts.split() == [name or '""' for name in model_names("")]


def test_a_build_under_way_ends_when_it_is_told_to(container: Container) -> None:
    process = container.start(BUILD_S="60")
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not container.calls.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.terminate()
        process.communicate(timeout=PATIENCE_S)  # until the build, too, has closed its output
        assert process.returncode == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def test_only_what_is_missing_is_built(container: Container) -> None:
    with container.served(CLEAVE_MODELS="one"):
        pass
    assert container.built() == ["one"]
    with container.served():
        pass
    assert container.built() == ["two"]


def test_a_build_that_was_killed_is_done_anew(container: Container) -> None:
    assert container.run(KILLED="1")[0] == 128 + signal.SIGKILL
    assert container.built() == ["one"]
    with container.served():
        pass
    assert container.built() == ["one", "two"]


def test_a_failing_build_stops_the_start_with_its_words_and_code(container: Container) -> None:
    assert container.run(FAILS="1") == (2, "cleave build: no such model\n")
    assert container.built() == ["one"]


@pytest.mark.parametrize(
    ("file", "text", "reason", "remedy"),
    [
        (
            "1/model.onnx",
            "something else",
            "1/model.onnx: not the file its manifest describes",
            "cleave build two",
        ),
        (
            "configs/tensorrt.pbtxt",
            'platform: "tensorrt_plan"',
            "1/model.plan: expected an engine, as the config names one, got none",
            "cleave build two --target tensorrt",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_not_built_anew(
    file: str, text: str, reason: str, remedy: str, container: Container
) -> None:
    with container.served():
        pass
    container.built()
    container.log.unlink()
    stale = container.repository / "two" / file
    stale.parent.mkdir(exist_ok=True)
    stale.write_text(text)
    code, said = container.run(CLEAVE_SERVE=container.environment["CLEAVE_SERVE"] + " --config-name tensorrt")
    assert code == 2
    assert f"cleave serve: {container.repository.name}/two/{reason}" in said
    assert f"run `{remedy} --out {container.repository.name}`" in said
    assert container.built() == []


def test_what_is_built_into_an_image_is_not_built_again(container: Container) -> None:
    (command,) = (rest for instruction, rest in stages()["gpu"] if instruction == "RUN" and "BUILT_MODELS" in rest)
    environment = container.environment | {"BUILT_MODELS": "one two"}
    subprocess.run(["sh", "-c", command], cwd=container.folder, env=environment, check=True)
    assert container.built() == ["one", "two"]
    with container.served():
        pass
    assert container.built() == []
    failing = subprocess.run(["sh", "-c", command], cwd=container.folder, env=environment | {"FAILS": ""}, check=False)
    assert failing.returncode != 0
    assert container.built() == ["one"]


def test_two_containers_of_one_volume_build_once(container: Container) -> None:
    other = container.start(BUILD_S="0.3", LOG=f"{container.log}.other")
    try:
        with container.served(BUILD_S="0.3"):
            pass
    finally:
        other.terminate()
        other.communicate(timeout=PATIENCE_S)
    assert sorted(container.built()) == ["one", "two"]


def test_the_health_check_asks_for_every_model_of_the_container(container: Container) -> None:
    environment = container.environment | {
        "CLEAVE_MODELS": "one two=/models/shop.py:two",
        "CLEAVE_PROBE": "--url localhost:1 --timeout 1",
    }
    done = subprocess.run(
        [HEALTHCHECK], cwd=container.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert container.calls.read_text() == "probe one two --url localhost:1 --timeout 1\n"
    assert (done.returncode, done.stdout) == (1, "")
    assert "one at localhost:1: the server cannot be reached" in done.stderr


def test_arguments_are_run_instead(container: Container) -> None:
    assert container.run("echo", "a b", CLEAVE_MODELS="") == (0, "a b\n")


def test_models_must_be_named(container: Container) -> None:
    code, said = container.run(CLEAVE_MODELS="")
    assert (code, said) == (2, 'CLEAVE_MODELS: expected models to serve, as "append vista", got none; set it\n')
