"""Asks NVIDIA's driver for the GPUs of this host, by `nvidia-smi`, which a container gets with the driver."""

from __future__ import annotations

import subprocess

from cleave.builders.contract.errors import ContractError

TIMEOUT_S = 60.0
"""The driver is loaded first where no process uses it."""


class HostError(ContractError):
    """This host has no GPU that engines can be built for or run on."""


def query_gpus(*fields: str) -> tuple[str, ...]:
    """A line for each GPU: the values of these fields of `nvidia-smi --query-gpu`, with commas between.

    Raises:
        HostError: there is no GPU.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    remedy = "run this on a machine with one, and a container with --gpus all"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise HostError(f"nvidia-smi: expected a GPU, got: {error}; {remedy}") from error
    found = tuple(filter(None, map(str.strip, done.stdout.splitlines())))
    if not found:
        raise HostError(f"nvidia-smi: expected a GPU, got none; {remedy}")
    return found


def compute_capabilities() -> tuple[str, ...]:
    """The compute capability of each kind of GPU of this host, as `8.9`.

    Raises:
        HostError: there is no GPU.
    """
    return tuple(dict.fromkeys(query_gpus("compute_cap")))
