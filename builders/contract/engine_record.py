"""What a manifest says of a TensorRT engine, and whether a host can run it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

ACROSS_MAJOR = (10, 11)
"""Version-compatible engines of TensorRT 10 run on 11; of no other two major versions here (TensorRT's support matrix,
"Engine Portability")."""
AMPERE = (8, 0)

Bounds = Mapping[str, tuple[int, int]]
"""The least and the largest size of the batch and each axis by name, that an optimization profile takes."""


def holds(bounds: Bounds, sizes: Mapping[str, int]) -> bool:
    """Whether a profile takes these sizes; of an axis that it does not have, any."""
    return all(low <= sizes[name] <= high for name, (low, high) in bounds.items() if name in sizes)


@dataclass(frozen=True)
class EngineRecord:
    """A TensorRT engine in a file beside the graph that it was built from."""

    file: str
    sha256: str
    tensorrt: str
    """The version that built it, as `11.1.0.106`."""
    compute_capability: str
    """Of the GPU that it was built on, as `8.9`."""
    version_compatible: bool
    hardware_compatible: bool
    profiles: list[Bounds]
    """What each optimization profile takes."""
    activation_bytes: int | None = None
    """That it needs to run beside its weights, in its largest profile; None where TensorRT did not say."""
    attentions: int = 0
    """That were to become one kernel each."""
    fused_attentions: int = 0
    """That did, in every profile."""


@dataclass(frozen=True)
class Host:
    """What is to run engines: an installed TensorRT, and each kind of GPU."""

    tensorrt: str
    compute_capabilities: tuple[str, ...]


def reason_not_runnable(engine: EngineRecord, host: Host) -> str | None:
    """Why a host cannot run an engine: what is expected, and what the engine is; None if it can.

    An engine runs on the TensorRT that built it, down to the build number (TensorRT's support policies); a
    version-compatible one on later ones, too. It runs on GPUs of the compute capability that it was built on; a
    hardware-compatible one on all from Ampere on.
    """
    if not _runs_on_version(engine, host.tensorrt):
        got = "a version-compatible one" if engine.version_compatible else "one"
        return f"an engine of TensorRT {host.tensorrt}, which is installed, got {got} of {engine.tensorrt}"
    for capability in host.compute_capabilities:
        if not _runs_on_gpu(engine, capability):
            return (
                f"an engine for compute capability {capability}, a GPU's here, got one for {engine.compute_capability}"
            )
    return None


def _runs_on_version(engine: EngineRecord, installed: str) -> bool:
    built_by, here = _numbers(engine.tensorrt), _numbers(installed)
    if built_by == here or not engine.version_compatible:
        return built_by == here
    return built_by < here and (built_by[0] == here[0] or (built_by[0], here[0]) == ACROSS_MAJOR)


def _runs_on_gpu(engine: EngineRecord, capability: str) -> bool:
    if engine.hardware_compatible:
        return _numbers(capability) >= AMPERE
    return capability == engine.compute_capability


def _numbers(version: str) -> tuple[int, ...]:
    """At most four: Python packages add more of their own, as `.post1`."""
    return tuple(map(int, re.findall(r"\d+", version)))[:4]
