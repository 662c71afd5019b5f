"""NVIDIA's driver is asked for the GPUs of a host in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from cleave.builders.contract.gpus import HostError, compute_capabilities
from cleave.perf.machine.environment import describe_host


def fake_nvidia_smi(folder: Path, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)


def test_the_driver_is_asked_for_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fake_nvidia_smi(
        tmp_path, '[ "$*" = "--query-gpu=compute_cap --format=csv,noheader" ] && printf "8.9\\n8.9\\n12.0\\n"'
    )
    assert compute_capabilities() == ("8.9", "12.0")


def test_a_report_names_every_gpu_with_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fake_nvidia_smi(
        tmp_path, '[ "$*" = "--query-gpu=name,driver_version --format=csv,noheader" ] && echo "NVIDIA L4, 580.65.06"'
    )
    assert describe_host().gpus == ("NVIDIA L4, 580.65.06",)


@pytest.mark.parametrize("script", [None, "exit 9", "exit 0"])
def test_a_host_without_a_gpu_says_so(script: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if script is not None:
        fake_nvidia_smi(tmp_path, script)
    with pytest.raises(HostError, match=r"^nvidia-smi: expected a GPU, got.*; run this on a machine with one, and"):
        compute_capabilities()
    assert describe_host().gpus == ()
