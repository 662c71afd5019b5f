"""The server is not started on an engine of another TensorRT, GPU or build: forged manifests, one sentence each."""

from __future__ import annotations

import ctypes
import ctypes.util
import dataclasses
import functools
import hashlib
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cleave import cli
from cleave.builders.contract.engine_record import EngineRecord, Host
from cleave.builders.contract.gpus import compute_capabilities
from cleave.builders.contract.manifest import ManifestError, read_manifest, write_manifest
from cleave.builders.names import PLAN_FILE, VERSION_FOLDER
from cleave.serving.errors import ServingError
from cleave.serving.server import engines
from cleave.serving.server.engines import backend_flags, installed_tensorrt
from cleave.serving.server.loaded_models import check_models
from tests.serving import toy

ENGINE = b"an engine"
HERE = Host("11.1.0.106", ("8.9",))
GRAPHS = ("toy_history_encoder", "toy_candidate_scorer", "toy_whole")


def record(**changes: Any) -> EngineRecord:
    digest = hashlib.sha256(ENGINE).hexdigest()
    fitting = EngineRecord(
        PLAN_FILE, digest, HERE.tensorrt, HERE.compute_capabilities[0], False, False, [{"batch": (1, 4)}]
    )
    return dataclasses.replace(fitting, **changes)


def forge(repository: Path, model: str, made: EngineRecord | None, **changes: Any) -> None:
    folder = repository / model / VERSION_FOLDER
    (folder / PLAN_FILE).write_bytes(ENGINE)
    write_manifest(folder, dataclasses.replace(read_manifest(repository / model), plan=made, **changes))


def rebuild(repository: Path) -> str:
    return f"; run `cleave build toy --target tensorrt --out {repository}`"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy repository with an engine of each graph, on the machine that they were built on."""
    folder = toy.write(tmp_path / "models")
    for model in GRAPHS:
        (folder / model / "configs").mkdir()
        (folder / model / "configs" / "tensorrt.pbtxt").write_text('platform: "tensorrt_plan"\n')
        forge(folder, model, record())
    monkeypatch.setattr(engines, "this_host", lambda: HERE)
    return folder


def refusal(repository: Path) -> str:
    with pytest.raises(ManifestError) as raised:
        check_models(repository, ["toy_uncached"], "tensorrt")
    return str(raised.value)


def test_engines_of_this_machine_are_served(repository: Path) -> None:
    assert check_models(repository, ["toy_uncached"], "tensorrt").engines == (record(),) * len(GRAPHS)


def test_what_has_no_such_config_needs_no_engine(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "this_host", lambda: pytest.fail("nothing is to be run on a GPU"))
    assert check_models(repository, ["lookup_whole"], "tensorrt").engines == ()
    assert check_models(repository, ["toy_uncached"]).engines == ()
    assert check_models(repository, ["toy_uncached"], "other").engines == ()


@pytest.mark.parametrize("model", GRAPHS)
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "expected an engine, as the config names one, got none"),
        (
            record(tensorrt="10.13.3.9"),
            "expected an engine of TensorRT 11.1.0.106, which is installed, got one of 10.13.3.9",
        ),
        (
            record(compute_capability="8.6"),
            "expected an engine for compute capability 8.9, a GPU's here, got one for 8.6",
        ),
        (record(sha256="0" * 64), "not the file its manifest describes (other digest)"),
        (record(file="other.plan"), "no such file"),
    ],
)
def test_a_foreign_engine_is_refused_in_one_sentence(
    model: str, made: EngineRecord | None, message: str, repository: Path
) -> None:
    forge(repository, model, made)
    file = repository / model / VERSION_FOLDER / (PLAN_FILE if made is None else made.file)
    assert refusal(repository) == f"{file}: {message}{rebuild(repository)}"


def test_engines_of_two_builds_are_refused(repository: Path) -> None:
    forge(repository, "toy_whole", record(), fingerprint="a" * 64)
    assert re.search(
        r"toy_whole: expected fingerprint f+ as toy_\w+ has, got a{12}, so they are of dif", refusal(repository)
    )


def test_a_config_may_name_the_backend_alone(repository: Path) -> None:
    (repository / "toy_whole" / "configs" / "tensorrt.pbtxt").write_text('backend: "tensorrt" new_field: 1')
    forge(repository, "toy_whole", None)
    assert "toy_whole/1/model.plan: expected an engine" in refusal(repository)


def test_the_command_is_the_one_that_built_the_engine(repository: Path) -> None:
    command = "cleave build toy --target tensorrt --hardware-compatible --out"
    forge(repository, "toy_whole", record(tensorrt="10.13.3.9"), build_command=f"{command} /elsewhere")
    assert refusal(repository).endswith(f"; run `{command} {repository}`")


def test_a_config_that_is_none_is_named(repository: Path) -> None:
    (repository / "toy_whole" / "configs" / "tensorrt.pbtxt").write_text("platform = 1")
    with pytest.raises(ServingError, match=r"configs/tensorrt\.pbtxt: expected a model's config, got: .*; run `cleave"):
        check_models(repository, ["toy_uncached"], "tensorrt")


def library(name: str) -> Any:
    """One that only `libnvinfer.so.11` is the name of."""
    if name != "libnvinfer.so.11":
        raise OSError(f"{name}: cannot open shared object file")
    numbers = {"Major": 11, "Minor": 1, "Patch": 0, "Build": 106}
    functions = {f"getInferLib{part}Version": functools.partial(int, number) for part, number in numbers.items()}
    return SimpleNamespace(**functions)


@pytest.mark.parametrize("cached", ["libnvinfer.so.11", "libnvinfer.so.9", None])
def test_the_library_that_is_installed_is_asked_for_its_version(
    cached: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the loader's cache has it or not."""
    monkeypatch.setattr(ctypes.util, "find_library", {"nvinfer": cached}.get)
    monkeypatch.setattr(ctypes, "CDLL", library)
    assert installed_tensorrt() == "11.1.0.106"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(ServingError, match=r"^libnvinfer: expected TensorRT's library, .*; start in the container, or"):
        installed_tensorrt()


def test_flags_of_the_backend() -> None:
    policy = "--backend-config=tensorrt,execution-policy=DEVICE_BLOCKING"
    assert list(backend_flags([])) == []
    assert list(backend_flags([record()])) == [policy]
    assert list(backend_flags([record(), record(version_compatible=True)])) == [
        policy,
        "--backend-config=tensorrt,version-compatible=true",
    ]


def check(*words: str) -> int:
    return cli.main(["check", "toy", *words])


def test_check_says_whether_a_server_would_start(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--repository", str(repository), "--config-name", "tensorrt"]
    assert check(*words) == 0
    assert capsys.readouterr().out == f"toy: fit to be served from {repository}\n"
    forge(repository, "toy_whole", record(tensorrt="10.13.3.9"))
    assert check(*words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"cleave check: {repository}/toy_whole/1/model.plan: expected an engine of TensorRT")
    assert captured.err.endswith(f"{rebuild(repository)}\n")
    assert check("--repository", str(repository)) == 0


def test_check_says_it_to_machines(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--repository", str(repository), "--config-name", "tensorrt", "--json"]
    assert check(*words) == 0
    fit = {"repository": str(repository), "rankers": ["toy"], "fit": True, "reason": None}
    assert json.loads(capsys.readouterr().out) == fit
    forge(repository, "toy_whole", record(tensorrt="10.13.3.9"))
    assert check(*words) == 1
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said == {**fit, "fit": False, "reason": said["reason"]}
    assert captured.err == f"cleave check: {said['reason']}\n"


def test_check_of_what_was_never_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--repository", str(tmp_path)) == 1
    assert f"build it by `cleave build toy --out {tmp_path}`" in capsys.readouterr().err
    assert check("--repository", str(tmp_path / "none")) == 1


def test_check_where_there_is_no_gpu(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engines, "this_host", lambda: Host(HERE.tensorrt, compute_capabilities()))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check("--repository", str(repository), "--config-name", "tensorrt") == 1
    assert capsys.readouterr().err.startswith("cleave check: nvidia-smi: expected a GPU, got: ")


def test_the_command_for_what_was_never_built_makes_the_engines_that_are_asked_for(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(repository / "toy_whole" / VERSION_FOLDER)
    words = ["--repository", str(repository)]
    assert check(*words, "--config-name", "tensorrt") == 1
    assert capsys.readouterr().err.endswith(f"; run `cleave build toy --target tensorrt --out {repository}`\n")
    assert check(*words) == 1
    assert capsys.readouterr().err.endswith(f"; run `cleave build toy --out {repository}`\n")


def test_a_server_is_not_started_on_a_foreign_engine(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge(repository, "toy_whole", record(compute_capability="9.0"))
    words = ["serve", "toy", "--repository", str(repository), "--config-name", "tensorrt", "--store", "none"]
    assert cli.main(words) == 2
    assert "toy_whole/1/model.plan: expected an engine for compute capability 8.9" in capsys.readouterr().err
