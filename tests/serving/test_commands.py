from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO

import pytest
import tritonclient.grpc as grpcclient

from cleave import cli
from cleave.clients import RankerClient, RankerError
from cleave.serving.server.ports import Ports, choose_ports
from tests.serving import cached_toy, toy

STOP_S = 30


@contextmanager
def _served(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        # As a shell starts what it runs in the background: with Ctrl-C ignored.
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "cleave", "serve", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _port_flags(ports: Ports) -> list[str]:
    return [f"--{service}-port={port}" for service, port in ports.items()]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_where_it_listens_and_stops_cleanly(
    ending: signal.Signals, repository: Path, tmp_path: Path
) -> None:
    ports = choose_ports("127.0.0.1", Ports())
    with _served("lookup", "--repository", str(repository), *_port_flags(ports), cwd=tmp_path) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(4)] == [
            "ready: lookup\n",
            f"grpc: 127.0.0.1:{ports.grpc}\n",
            f"http: http://127.0.0.1:{ports.http}\n",
            f"metrics: http://127.0.0.1:{ports.metrics}/metrics\n",
        ]
        with grpcclient.InferenceServerClient(f"127.0.0.1:{ports.grpc}") as client:
            assert client.is_model_ready("lookup_whole")
        process.send_signal(ending)
        output, errors = process.communicate(timeout=STOP_S)
    assert (process.returncode, output) == (0, "")
    log = tmp_path / ".cleave" / "logs" / f"triton-{ports.grpc}.log"
    assert errors.splitlines() == [f"starting Triton with lookup_whole; its log: {log}", "stopped"]
    assert "successfully loaded 'lookup_whole'" in log.read_text()
    with socket.socket() as free:
        free.bind(("127.0.0.1", ports.grpc or 0))


def test_serve_loads_all_models_of_all_names_from_the_folder_it_is_called_in(tmp_path: Path) -> None:
    toy.write(tmp_path / "model_repository")
    ports = choose_ports("127.0.0.1", Ports())
    with _served("toy", "lookup", "toy", "--verbose", *_port_flags(ports), cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready: toy, lookup\n"
        with grpcclient.InferenceServerClient(f"127.0.0.1:{ports.grpc}") as client:
            loaded = [model for model in toy.MODELS if client.is_model_ready(model)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=STOP_S)
    assert sorted(loaded) == sorted(set(toy.MODELS) - {"types_whole"})
    assert "successfully loaded 'toy_uncached'" in errors


def test_serve_starts_anew_what_was_killed_and_the_store_keeps_what_it_holds(tmp_path: Path) -> None:
    repository = cached_toy.write(tmp_path / "repository", tmp_path)
    ports = choose_ports("127.0.0.1", Ports())
    arguments = ["toy", "--repository", str(repository), *_port_flags(ports)]
    with _served(*arguments, cwd=tmp_path) as process, RankerClient(f"127.0.0.1:{ports.grpc}", "toy") as client:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready: toy\n"
        before = client.rank(user_id="u", history=cached_toy.history(1, 2), **cached_toy.rest())
        for ended, said in (("triton_python_backend_stub", "model 'toy_"), ("tritonserver", "ended by SIGKILL")):
            os.kill(_descendant(process.pid, ended), signal.SIGKILL)
            _read_until(process.stderr, said)
            _read_until(process.stderr, "ready again after")
            by_id = client.rank(user_id="u", **cached_toy.rest())
            assert (by_id.summary_status, by_id.scores.tolist()) == ("hit", before.scores.tolist())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_S)
    assert process.returncode == 0
    assert (tmp_path / ".cleave" / "logs" / f"triton-{ports.grpc}.log.1").is_file()


def _ask(client: RankerClient, item: int, answers: list[str]) -> None:
    try:
        client.rank(history=cached_toy.history(item), deadline=STOP_S, **cached_toy.rest())
        answers.append("scores")
    except RankerError as error:
        answers.append(type(error).__name__)


@pytest.mark.parametrize(("drain_s", "under_way"), [("20", "scores"), ("0.5", "UnavailableError")])
def test_a_stop_answers_what_is_under_way_and_refuses_what_comes_after(
    drain_s: str, under_way: str, tmp_path: Path
) -> None:
    gate = cached_toy.Gate(tmp_path)
    repository = cached_toy.write(tmp_path / "repository", gate.folder)
    ports = choose_ports("127.0.0.1", Ports())
    url = f"127.0.0.1:{ports.grpc}"
    served = _served("toy", "--repository", str(repository), *_port_flags(ports), "--drain", drain_s, cwd=tmp_path)
    with served as process, contextlib.ExitStack() as closing:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready: toy\n"
        clients = [closing.enter_context(RankerClient(url, model)) for model in ("toy", "toy_uncached", "toy_whole")]
        for client in clients:
            _ask(client, 1, [])
        before: list[str] = []
        with gate.closed():
            # A miss and a request of the ensemble without a cache; what is behind them waits in Triton's queue.
            asked = [clients[0], *[clients[1]] * 3]
            threads = [Thread(target=_ask, args=(client, cached_toy.GATED_ITEM, before)) for client in asked]
            for thread in threads:
                thread.start()
            gate.wait_until_reached()
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.4)
            after: list[str] = []
            _ask(clients[0], 2, after)
            _ask(clients[2], 2, after)
            assert after == ["UnavailableError"] * 2
            if under_way != "scores":
                process.wait(STOP_S)
        for thread in threads:
            thread.join()
        _, errors = process.communicate(timeout=STOP_S)
    assert before == [under_way] * 4
    assert process.returncode == 0
    assert ("--drain: 0.5 s have passed, and some requests under way are not answered" in errors) == (drain_s == "0.5")


def _descendant(pid: int, program: str) -> int:
    """A process below `pid` that runs `program`."""
    for folder in Path(f"/proc/{pid}/task").iterdir():
        for child in (folder / "children").read_text().split():
            if program in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0].decode():
                return int(child)
            with contextlib.suppress(LookupError):
                return _descendant(int(child), program)
    raise LookupError(program)


def _read_until(stream: IO[str], words: str) -> None:
    read = []
    for line in stream:
        read.append(line)
        if words in line:
            return
    raise AssertionError(f"{words!r} is not in {read}")


def _refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["serve", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    return errors


def test_serve_names_the_flag_of_a_taken_port(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = _port_flags(choose_ports("127.0.0.1", Ports()))[1:]
        port = taken.getsockname()[1]
        errors = _refused(["lookup", "--repository", str(repository), f"--http-port={port}", *flags], capsys)
    assert f"cleave serve: --http-port {port}: expected a free port, got: Address already in use; stop" in errors


def test_serve_names_a_missing_artifact_and_the_command_that_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    artifact = tmp_path / "toy_whole" / "1" / "model.onnx"
    artifact.unlink()
    errors = _refused(["toy", "--repository", str(tmp_path)], capsys)
    assert f"cleave serve: {artifact}: no such file; run `cleave build toy --out {tmp_path}`" in errors
    shutil.rmtree(artifact.parent)
    errors = _refused(["toy", "--repository", str(tmp_path)], capsys)
    assert (
        f"manifest.json: no such file, so toy_whole is not built here; run `cleave build toy --out {tmp_path}`"
        in errors
    )


def test_serve_says_what_the_repository_holds(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    errors = _refused(["other", "--repository", str(repository)], capsys)
    assert "ranker 'other': not in" in errors
    assert "which holds lookup, toy, types;" in errors


def test_serve_explains_a_missing_server(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("cleave.serving.server.installation.CONTAINER", tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    flags = _port_flags(choose_ports("127.0.0.1", Ports()))
    assert "run `pip install nvidia-pytriton`" in _refused(["lookup", "--repository", str(repository), *flags], capsys)


def test_serve_looks_for_other_sizes_where_the_build_puts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    errors = _refused(["append", "--size", "layers=3"], capsys)
    command = "cleave build append --size layers=3 --out .cleave/repositories/append-layers3"
    assert f"model repository '.cleave/repositories/append-layers3': no such folder; build it by `{command}`" in errors
    assert "--size: expected one NAME, got append, concat" in _refused(
        ["append", "concat", "--size", "layers=3"], capsys
    )


def test_a_container_has_tritons_log_for_output_and_the_variables_of_its_caller(
    repository: Path, tmp_path: Path
) -> None:
    ports = choose_ports("127.0.0.1", Ports())
    given = ["lookup", "--repository", str(repository), *_port_flags(ports), "--container", "--max-age", "30"]
    with _served(*given, cwd=tmp_path) as process:
        assert process.stdout is not None
        _read_until(process.stdout, "successfully loaded 'lookup_whole'")
        _read_until(process.stdout, "ready: lookup")
        stub = _descendant(process.pid, "triton_python_backend_stub")
        variables = Path(f"/proc/{stub}/environ").read_text().split("\0")
        assert {"CLEAVE_STORE=", "CLEAVE_MAX_AGE_S=30.0"} < set(variables)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_S)
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_container_keeps_no_store(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    errors = _refused(["lookup", "--repository", str(repository), "--container", "--store-size", "1gb"], capsys)
    assert "--store-size: only for the default store, got --container, which has none; leave one of them out" in errors


def test_serve_takes_no_password_among_its_arguments(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    errors = _refused(["lookup", "--repository", str(repository), "--store", "redis://:hidden@host"], capsys)
    assert "--store: expected a URL without a password" in errors
    assert "hidden" not in errors
