from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from cleave.builders.contract.manifest import ManifestError
from cleave.builders.files import sha256_of
from cleave.serving.errors import ServingError
from cleave.serving.server.loaded_models import check_models
from cleave.serving.server.ports import Ports, choose_ports
from cleave.serving.server.processes import shared_memory_of
from cleave.serving.server.triton import UNSENDABLE_HEADER, TritonServer
from tests.serving import toy


def _processes(group: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rpartition(") ")[2].split()[:3]
        except OSError:  # ended meanwhile
            continue
        if int(process_group) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def _wait_for_none(find: Callable[[], list[Any]]) -> None:
    deadline = time.monotonic() + 5
    while find() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert find() == []


def test_free_ports_are_chosen_around_those_asked_for() -> None:
    first = choose_ports("127.0.0.1", Ports())
    assert len({first.http, first.grpc, first.metrics}) == 3
    again = choose_ports("127.0.0.1", Ports(grpc=first.grpc))
    assert again.grpc == first.grpc
    assert len({again.http, again.grpc, again.metrics}) == 3


@pytest.mark.parametrize("service", ["http", "grpc", "metrics"])
def test_a_taken_port_is_named_by_its_flag(service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ServingError, match=f"--{service}-port {port}: expected a free port, got: Address already in use; stop"
        ):
            choose_ports("127.0.0.1", Ports(**{service: port}))


def test_a_port_asked_for_twice_is_refused() -> None:
    port = choose_ports("127.0.0.1", Ports()).http
    with pytest.raises(ServingError, match=f"--grpc-port {port}: expected a free port"):
        choose_ports("127.0.0.1", Ports(http=port, grpc=port))


@pytest.mark.parametrize("port", [-1, 65536])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ServingError, match=f"--http-port {port}: expected a free port"):
        choose_ports("127.0.0.1", Ports(http=port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ServingError, match=f"--host {host}: expected an address of this machine"):
        choose_ports(host, Ports())


def test_a_server_says_where_it_is_and_leaves_nothing_behind(repository: Path) -> None:
    with TritonServer(repository, ["lookup_whole"]) as server:
        pid, log = server.pid, server.log
        regions = shared_memory_of(pid)
        assert len(_processes(pid)) == 2  # the server and its one instance
        assert regions
        assert grpcclient.InferenceServerClient(server.grpc_url).is_model_ready("lookup_whole")
        with urllib.request.urlopen(server.metrics_url) as answer:
            assert b"nv_inference_count" in answer.read()
        assert log is not None
        assert log.is_file()
    assert _processes(pid) == []
    assert not any(region.exists() for region in regions)
    assert not log.exists()


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0"])
def test_a_host_may_be_a_name_or_all_addresses(host: str, repository: Path) -> None:
    with TritonServer(repository, ["lookup_whole"], host=host) as server:
        with urllib.request.urlopen(f"{server.http_url}/v2/health/ready") as answer:
            assert answer.status == 200
        with urllib.request.urlopen(server.metrics_url) as answer:
            assert b"nv_inference_count" in answer.read()
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            assert client.is_server_live()


def test_a_killed_server_leaves_nothing_behind(repository: Path) -> None:
    server = TritonServer(repository, ["lookup_whole"])
    server.start()
    pid, regions = server.pid, shared_memory_of(server.pid)
    os.kill(pid, signal.SIGKILL)
    _wait_for_none(lambda: [] if server.poll() is not None else [pid])
    assert "tritonserver: ended by SIGKILL; its last lines:" in server.failure()
    server.stop()
    _wait_for_none(lambda: _processes(pid))
    assert not any(region.exists() for region in regions)


def test_a_server_ends_with_the_process_that_started_it(repository: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from cleave.serving.server.triton import TritonServer\n"
        "server = TritonServer(Path(sys.argv[1]), ['lookup_whole']); server.start(); print(server.pid, flush=True)\n"
        "time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, str(repository)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    assert _processes(pid)
    starter.kill()
    starter.communicate()
    _wait_for_none(lambda: _processes(pid))


def test_nobody_may_load_models_or_map_memory_once_it_runs(server: TritonServer, client: Any) -> None:
    calls: list[Callable[[], Any]] = [
        client.get_model_repository_index,
        lambda: client.load_model("types_whole"),
        lambda: client.unload_model("toy_whole"),
        lambda: client.register_system_shared_memory("region", "/region", 8),
        lambda: client.register_cuda_shared_memory("region", b"", 0, 8),
        lambda: client.update_log_settings({"log_file": "/tmp/file"}),
        lambda: client.update_trace_settings(settings={"trace_file": "/tmp/file"}),
    ]
    for call in calls:
        with pytest.raises(InferenceServerException, match="restricted"):
            call()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{server.http_url}/v2/repository/models/toy_whole/unload", data=b"{}")


def _sent_raw(url: str, head: bytes) -> bytes:
    """What the server answers to bytes that no HTTP client would send."""
    place = urllib.parse.urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(b"POST " + head + b"Host: x\r\nContent-Length: 2\r\n\r\n{}")
        return connection.recv(1000)


def test_the_header_that_opens_the_closed_apis_cannot_be_sent(server: TritonServer) -> None:
    name, value = UNSENDABLE_HEADER.split("=")
    unload = b"/v2/repository/models/toy_whole/unload HTTP/1.1\r\n"
    assert b"403" in _sent_raw(server.http_url, unload)
    for break_ in ("\n", "\r\n"):
        header = f"{name}: {value}".replace("\n", break_).encode()
        for end in (b"\r\n", b"\n"):
            assert b"200" not in _sent_raw(server.http_url, unload + header + end)
    metadata = f"triton-grpc-protocol-{name}"
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="Invalid metadata"):
            client.unload_model("toy_whole", headers={metadata: value})
        assert client.is_model_ready("toy_whole")


def test_only_what_is_asked_for_is_loaded_and_the_steps_of_ensembles(tmp_path: Path) -> None:
    toy.write(tmp_path)
    checked = check_models(tmp_path, ["toy_uncached"])
    assert set(checked.versions) == {"toy_uncached", "toy_history_encoder", "toy_candidate_scorer"}
    assert {manifest.model for manifest in checked.manifests} > set(checked.versions)


def _alter(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")


def _other_build(folder: Path) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprint": "a" * 64}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_alter, "toy_candidate_scorer/1/model.onnx: not the file its manifest describes"),
        (_other_build, "toy_history_encoder: expected fingerprint aaaaaaaaaaaa as toy_candidate_scorer has, got ffff"),
    ],
)
def test_what_a_build_did_not_make_together_is_refused_by_name(
    change: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    toy.write(tmp_path)
    change(tmp_path / "toy_candidate_scorer" / "1")
    with pytest.raises(ManifestError, match=message), TritonServer(tmp_path, ["toy_uncached"]):
        pass


def test_an_artifact_that_is_exchanged_after_the_check_is_refused_at_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.write(tmp_path)
    checked = dataclasses.replace(check_models(tmp_path, ["lookup_whole"]), artifacts=())
    _alter(tmp_path / "lookup_whole" / "1")
    monkeypatch.setattr("cleave.serving.server.triton.check_models", lambda *given: checked)
    with pytest.raises(
        ServingError, match=r"^\S*lookup_whole/1/model.onnx: not the file its manifest describes"
    ) as caught:
        TritonServer(tmp_path, ["lookup_whole"]).start()
    assert str(caught.value).endswith(f"run `cleave build lookup --out {tmp_path}`")


def test_a_config_that_does_not_fit_is_refused_with_the_model_and_the_reason(tmp_path: Path) -> None:
    toy.write(tmp_path)
    config = toy.config("toy_whole")
    config.input[0].dims.append(2)
    toy.write_model(tmp_path, "toy_whole", config, toy.graph("toy_whole"))
    with pytest.raises(
        ServingError,
        match=r"^model 'toy_whole': input 'history_items': expected TYPE_INT64 \[-1, -1\] as in the graph, got",
    ):
        TritonServer(tmp_path, ["toy_whole"]).start()


def test_a_config_that_triton_refuses_is_shown_with_its_words(tmp_path: Path) -> None:
    toy.write(tmp_path)
    (tmp_path / "toy_whole" / "config.pbtxt").write_text("no_such_field: 1")
    with pytest.raises(ServingError, match=r'toy_whole/config\.pbtxt; .*no field named "no_such_field"'):
        TritonServer(tmp_path, ["toy_whole"]).start()


def test_a_graph_that_onnx_runtime_refuses_is_shown_with_the_model(tmp_path: Path) -> None:
    toy.write(tmp_path)
    folder = tmp_path / "toy_whole" / "1"
    (folder / "model.onnx").write_bytes(b"not a graph")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256": sha256_of(folder / "model.onnx")}))
    with pytest.raises(ServingError, match=r"^model 'toy_whole': ONNX Runtime cannot load .*; build it anew$"):
        TritonServer(tmp_path, ["toy_whole"]).start()


def test_loading_may_take_too_long(repository: Path) -> None:
    with pytest.raises(ServingError, match=r"tritonserver: expected to be ready in 0\.01 s, got no answer"):
        TritonServer(repository, ["lookup_whole"], start_timeout_s=0.01).start()


def test_a_model_py_of_the_caller_is_not_taken_for_the_backend(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.py").write_text("raise SystemExit('the wrong model')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with TritonServer(repository, ["lookup_whole"]) as server:
        assert server.poll() is None


def test_a_config_name_chooses_the_config_that_has_it(tmp_path: Path) -> None:
    toy.write(tmp_path)
    named = toy.config("toy_whole")
    named.max_batch_size = 2
    folder = tmp_path / "toy_whole" / "configs"
    folder.mkdir()
    (folder / "small.pbtxt").write_text(str(named))
    with TritonServer(tmp_path, ["toy_whole", "lookup_whole"], config_name="small") as server:
        client = grpcclient.InferenceServerClient(server.grpc_url)
        assert client.get_model_config("toy_whole").config.max_batch_size == 2
        assert client.get_model_config("lookup_whole").config.max_batch_size == toy.LOOKUP_BATCH
        client.close()
