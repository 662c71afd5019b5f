"""What a manifest says of a TensorRT engine, and whether a machine can run it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from cleave.builders.errors import BuilderError

COMPUTE_CAPABILITIES = ("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")
"""The container runtime brings `nvidia-smi` along with the driver, whatever the image."""
TIMEOUT_S = 30

ACROSS_MAJOR = (10, 11)
"""Version-compatible engines of TensorRT 10 run on 11; of no other two major versions here (TensorRT's support matrix,
"Engine Portability")."""
AMPERE = (8, 0)


class MachineError(BuilderError):
    """This machine has no GPU that engines can be built for or run on."""


@dataclass(frozen=True)
class Plan:
    """An engine in a file beside the graph that it was built from."""

    file: str
    sha256: str
    tensorrt: str
    """The version that built it, as `11.1.0.106`."""
    compute_capability: str
    """Of the GPU that it was built on, as `8.9`."""
    version_compatible: bool
    hardware_compatible: bool
    profiles: list[dict[str, list[int]]]
    """The least and the largest size of the batch and each axis, that each optimization profile takes."""
    activation_bytes: int | None = None
    """That it needs to run beside its weights, in its largest profile; None where TensorRT did not say."""
    attentions: int = 0
    """That were to become one kernel each."""
    fused_attentions: int = 0
    """That did, in every profile."""


@dataclass(frozen=True)
class Machine:
    """What is to run engines: an installed TensorRT, and each kind of GPU."""

    tensorrt: str
    compute_capabilities: tuple[str, ...]


def misfit(plan: Plan, machine: Machine) -> str | None:
    """Why a machine cannot run an engine: what is expected, and what the engine is; None if it can.

    An engine runs on the TensorRT that built it, down to the build number (TensorRT's support policies); a
    version-compatible one on later ones, too. It runs on GPUs of the compute capability that it was built on; a
    hardware-compatible one on all from Ampere on.
    """
    if not _runs_on_version(plan, machine.tensorrt):
        got = "a version-compatible one" if plan.version_compatible else "one"
        return f"an engine of TensorRT {machine.tensorrt}, which is installed, got {got} of {plan.tensorrt}"
    for capability in machine.compute_capabilities:
        if not _runs_on_gpu(plan, capability):
            return f"an engine for compute capability {capability}, a GPU's here, got one for {plan.compute_capability}"
    return None


def _runs_on_version(plan: Plan, installed: str) -> bool:
    of_plan, here = _numbers(plan.tensorrt), _numbers(installed)
    if of_plan == here or not plan.version_compatible:
        return of_plan == here
    return of_plan < here and (of_plan[0] == here[0] or (of_plan[0], here[0]) == ACROSS_MAJOR)


def _runs_on_gpu(plan: Plan, capability: str) -> bool:
    if plan.hardware_compatible:
        return _numbers(capability) >= AMPERE
    return capability == plan.compute_capability


def _numbers(version: str) -> tuple[int, ...]:
    """At most four: Python packages add more of their own, as `.post1`."""
    return tuple(map(int, re.findall(r"\d+", version)))[:4]


def compute_capabilities() -> tuple[str, ...]:
    """Of each kind of GPU of this machine, as `8.9`.

    Raises:
        MachineError: there is no GPU.
    """
    try:
        done = subprocess.run(COMPUTE_CAPABILITIES, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(f"nvidia-smi: expected a GPU, got: {error}; {_GIVE_ONE}") from error
    found = tuple(dict.fromkeys(filter(None, map(str.strip, done.stdout.splitlines()))))
    if not found:
        raise MachineError(f"nvidia-smi: expected a GPU, got none; {_GIVE_ONE}")
    return found


_GIVE_ONE = "run this on a machine with one, and a container with --gpus all"
