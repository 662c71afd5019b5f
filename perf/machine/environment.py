"""Describes what a run is made on and with, without which its figures say nothing: host, load and versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from cleave import DISTRIBUTION
from cleave.builders.contract.gpus import HostError, query_gpus

SERVER_PACKAGE = "nvidia-pytriton"
"""The package of the server that is started where no other is named."""
PACKAGES = {"cleave": DISTRIBUTION} | {
    name: name for name in (SERVER_PACKAGE, "onnxruntime", "onnx", "torch", "numpy", "tritonclient", "litserve")
}
"""Packages on which speed depends, as reports call them, and the names of their distributions."""


@dataclass(frozen=True, kw_only=True)
class HostDescription:
    """The machine that a run is made on."""

    processor: str
    cores: int
    """The number of cores that this process may use."""
    memory_bytes: int
    system: str
    gpus: tuple[str, ...] = ()
    """Each with its driver, as `NVIDIA L4, 580.65.06`."""


def describe_host() -> HostDescription:
    """The machine that this process runs on."""
    return HostDescription(
        processor=processor_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.machine()}",
        gpus=_gpus(),
    )


def processor_name() -> str:
    """The processor's name, as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def load_average() -> float:
    """The mean number of processes of the last minute that ran or waited for a processor: below 0.5 when idle."""
    return os.getloadavg()[0]


class ProcessorTime(NamedTuple):
    """Clock ticks of all processors since the machine was started."""

    busy: int
    stolen: int
    """Ticks in which this machine had work, and its host let other machines run."""

    def stolen_since(self, before: ProcessorTime) -> float:
        """The share of the processor time asked for since then that the host did not give."""
        busy, stolen = self.busy - before.busy, self.stolen - before.stolen
        return stolen / (busy + stolen) if stolen else 0.0


def processor_time() -> ProcessorTime:
    """Processor time up to now, by `/proc/stat` (proc(5))."""
    user, nice, system, _idle, _iowait, irq, softirq, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return ProcessorTime(user + nice + system + irq + softirq, stolen)


def versions(analyzer: str, server: Mapping[str, str] | None = None) -> dict[str, str]:
    """Versions by name: of Python, perf_analyzer, and every package on which speed depends.

    Args:
        analyzer: the version of perf_analyzer.
        server: name and version of a running server, which take the place of those of `SERVER_PACKAGE`.
    """
    found = {"python": platform.python_version(), "perf_analyzer": analyzer, **(server or {})}
    for package, distribution in PACKAGES.items():
        if server is not None and package == SERVER_PACKAGE:
            continue
        try:
            found[package] = version(distribution)
        except PackageNotFoundError:
            continue
    return found


def _gpus() -> tuple[str, ...]:
    """The GPUs of this machine; none without NVIDIA's driver."""
    try:
        return query_gpus("name", "driver_version")
    except HostError:
        return ()
