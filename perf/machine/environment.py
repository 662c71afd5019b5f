"""What a run was made on and with: two reports are only compared with this in mind."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

SERVER_PACKAGE = "nvidia-pytriton"
"""Carries the server that is started where none is named."""
PACKAGES = ("cleave", SERVER_PACKAGE, "onnxruntime", "onnx", "torch", "numpy", "tritonclient", "litserve")
GPUS = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
TIMEOUT_S = 60


def machine() -> dict[str, Any]:
    """Processor, cores, memory, and each GPU with its driver."""
    return {
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "gpus": _gpus(),
    }


def processor_name() -> str:
    """As the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def load_average() -> float:
    """Processes that ran or wanted to during the last minute: on an idle machine below 0.5."""
    return os.getloadavg()[0]


class ProcessorTime(NamedTuple):
    """Ticks of all processors since the machine was started."""

    busy: int
    stolen: int
    """Ticks in which work was ready and the host let other machines run."""

    def stolen_since(self, before: ProcessorTime) -> float:
        """The share of the processor time asked for since then that the host did not give."""
        busy, stolen = self.busy - before.busy, self.stolen - before.stolen
        return stolen / (busy + stolen) if stolen else 0.0


def processor_time() -> ProcessorTime:
    """Of now, by `/proc/stat` (proc(5))."""
    user, nice, system, _idle, _iowait, irq, softirq, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return ProcessorTime(user + nice + system + irq + softirq, stolen)


def versions(analyzer: str, server: Mapping[str, str] | None = None) -> dict[str, str]:
    """Of Python, of perf_analyzer and of every package that decides about speed.

    Args:
        server: of a server that runs, whose package is not asked for then.
    """
    found = {"python": platform.python_version(), "perf_analyzer": analyzer, **(server or {})}
    for package in PACKAGES:
        if server is not None and package == SERVER_PACKAGE:
            continue
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _gpus() -> list[str]:
    """As `NVIDIA L4, 580.65.06`; none without NVIDIA's driver."""
    try:
        done = subprocess.run(GPUS, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return []
    return list(filter(None, map(str.strip, done.stdout.splitlines())))
