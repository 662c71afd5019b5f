from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cleave.serving.errors import ServingError
from cleave.serving.server import installation
from cleave.serving.server.installation import Installation, assemble_backends, environment, find_installation


def _fake_triton(root: Path, *backends: str) -> Path:
    for folder in ("bin", "caches", *(f"backends/{backend}" for backend in backends)):
        (root / folder).mkdir(parents=True)
    binary = root / "bin" / "tritonserver"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    return binary


@pytest.fixture
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(installation, "CONTAINER", tmp_path / "none")


@pytest.mark.usefixtures("_nowhere")
def test_the_wheel_is_found_with_its_stub_and_libraries() -> None:
    found = find_installation()
    assert found.binary.is_file()
    assert found.stub is not None
    assert found.stub.parent.name == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert all(folder.is_dir() for folder in found.libraries)


def test_a_server_on_path_comes_first_with_the_backends_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    binary = _fake_triton(tmp_path / "own", "python")
    monkeypatch.setenv("PATH", str(binary.parent))
    assert find_installation() == Installation(binary, tmp_path / "own" / "backends", tmp_path / "own" / "caches")


def test_a_link_on_path_leads_to_the_container_s_backends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = _fake_triton(tmp_path / "container", "python")
    link = tmp_path / "bin" / "tritonserver"
    link.parent.mkdir()
    link.symlink_to(binary)
    monkeypatch.setenv("PATH", str(link.parent))
    assert find_installation().backends == tmp_path / "container" / "backends"


def test_the_container_s_place_comes_second(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = _fake_triton(tmp_path / "container", "python")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(installation, "CONTAINER", tmp_path / "container")
    assert find_installation().binary == binary


@pytest.mark.usefixtures("_nowhere")
def test_a_machine_without_a_server_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServingError, match=r"tritonserver: expected it on PATH, .* run `pip install nvidia-pytriton`"):
        find_installation()


@pytest.mark.usefixtures("_nowhere")
def test_a_python_without_a_stub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", type("Version", (), {"major": 3, "minor": 99}))
    with pytest.raises(ServingError, match=r"expected Python .*3\.10.*, got 3\.99"):
        find_installation()


@pytest.mark.usefixtures("_nowhere")
def test_a_python_without_a_shared_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: {"INSTSONAME": "libpython3.99.so"}.get(name, "/none"))
    with pytest.raises(ServingError, match=r"expected libpython3\.99\.so in /none, got none; install"):
        find_installation()


@pytest.mark.usefixtures("_nowhere")
def test_the_wheel_gets_our_backends(tmp_path: Path) -> None:
    assemble_backends(find_installation(), tmp_path / "backends")
    assert (tmp_path / "backends" / "onnxruntime" / "model.py").is_file()
    python = tmp_path / "backends" / "python"
    assert {"libtriton_python.so", "triton_python_backend_stub"} <= {file.name for file in python.iterdir()}
    assert not any(file.is_symlink() for file in python.iterdir())


def test_an_official_backend_is_preferred_to_ours(tmp_path: Path) -> None:
    binary = _fake_triton(tmp_path / "own", "python", "onnxruntime", "tensorrt")
    (tmp_path / "own" / "backends" / "onnxruntime" / "libtriton_onnxruntime.so").touch()
    own = tmp_path / "own" / "backends"
    assemble_backends(Installation(binary, own, tmp_path / "caches"), tmp_path / "backends")
    for name in ("python", "onnxruntime", "tensorrt"):
        assert (tmp_path / "backends" / name).resolve() == own / name


def test_the_backend_s_python_imports_what_ours_does_and_no_module_of_the_caller(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "model.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    variables = environment(find_installation())
    assert str(tmp_path) not in variables["PYTHONPATH"].split(os.pathsep)
    code = "import cleave.builders, cleave.serving, numpy; print(cleave.serving.__file__, numpy.__file__)"
    shown = subprocess.run(
        ["python3", "-c", code], env=variables, cwd=tmp_path.parent, check=True, capture_output=True, text=True
    )
    import numpy as np

    import cleave.serving

    assert shown.stdout.split() == [cleave.serving.__file__, np.__file__]


def test_what_the_caller_says_of_memory_goes_before_what_we_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    variables = environment(find_installation())
    assert variables["MALLOC_TRIM_THRESHOLD_"] == "1"
    assert variables["MALLOC_MMAP_THRESHOLD_"] == str(installation.KEPT_BYTES)
