"""Refuses engines that this machine's TensorRT or GPUs cannot run, before Triton tries to load them."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from cleave.builders.contract.engine_record import Machine, Plan, compute_capabilities, misfit
from cleave.builders.contract.manifest import Manifest, ManifestError, check_file
from cleave.builders.names import PLAN_FILE, PLAN_PLATFORM, VERSION_FOLDER, named_config_file
from cleave.serving.errors import ServingError

EXECUTION_POLICY = "DEVICE_BLOCKING"
"""One thread of Triton launches the work of all instances of a GPU: engines are short, and threads would take turns."""

SONAMES = ("libnvinfer.so.11", "libnvinfer.so.10")

REBUILT_FOR = "--target tensorrt"


class PlanError(ManifestError):
    """An engine that was never built, or of another TensorRT or GPU."""


def installed_tensorrt() -> str:
    """The version of the TensorRT that Triton loads, as `11.1.0.106`.

    The library is asked: a server's machine may have no Python module of it, or one of another version.

    Raises:
        ServingError: it is not installed.
    """
    library = _libnvinfer()
    parts = ("Major", "Minor", "Patch", "Build")
    return ".".join(str(getattr(library, f"getInferLib{part}Version")()) for part in parts)


def _libnvinfer() -> ctypes.CDLL:
    """As the loader finds it for Triton: in its cache, or in a folder of `LD_LIBRARY_PATH`."""
    for name in filter(None, (ctypes.util.find_library("nvinfer"), *SONAMES)):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    raise ServingError(
        "libnvinfer: expected TensorRT's library, which runs engines, got none that loads; start in the container, or "
        "leave --config-name out"
    )


def this_machine() -> Machine:
    """Raises: ServingError: no TensorRT; MachineError: no GPU."""
    return Machine(installed_tensorrt(), compute_capabilities())


def check_plans(repository: Path, manifests: Sequence[Manifest], config_name: str | None) -> list[Plan]:
    """The engines that a server would load of these models, all fit to be run here.

    Args:
        config_name: as of `--model-config-name`: models with such a config are served by it.

    Raises:
        ManifestError: an engine was never built, is altered, or is of another TensorRT or GPU; says which, and the
            command that builds it.
        ServingError, MachineError: an engine is to be served, and there is no TensorRT or no GPU.
    """
    served = [manifest for manifest in manifests if _is_an_engine(repository / manifest.model, config_name)]
    plans = [_whole_plan(repository / manifest.model / VERSION_FOLDER, manifest) for manifest in served]
    if plans:
        machine = this_machine()
        for manifest, plan in zip(served, plans, strict=True):
            reason = misfit(plan, machine)
            if reason is not None:
                file = repository / manifest.model / VERSION_FOLDER / plan.file
                raise PlanError(f"{file}: expected {reason}; {_rebuild(manifest)}")
    return plans


def _is_an_engine(model_folder: Path, config_name: str | None) -> bool:
    """Whether the config that Triton takes names an engine; without one of this name it takes `config.pbtxt`."""
    if config_name is None:
        return False
    file = model_folder / named_config_file(config_name)
    if not file.is_file():
        return False
    try:
        config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig(), allow_unknown_field=True)
    except text_format.ParseError as error:
        raise ServingError(f"{file}: expected a model's config, got: {error}; build the model again") from error
    return bool(config.platform == PLAN_PLATFORM or config.backend == "tensorrt")


def _whole_plan(folder: Path, manifest: Manifest) -> Plan:
    plan, remedy = manifest.plan, _rebuild(manifest)
    if plan is None:
        raise PlanError(f"{folder / PLAN_FILE}: expected an engine, as the config names one, got none; {remedy}")
    check_file(folder / plan.file, plan.sha256, remedy)
    return plan


def _rebuild(manifest: Manifest) -> str:
    command = manifest.build_command
    return f"run `{command if REBUILT_FOR in command else f'{command} {REBUILT_FOR}'}`"


def backend_flags(plans: Sequence[Plan]) -> Iterator[str]:
    """What Triton's TensorRT backend is started with; nothing where no engine is served."""
    if plans:
        yield f"--backend-config=tensorrt,execution-policy={EXECUTION_POLICY}"
    if any(plan.version_compatible for plan in plans):
        yield "--backend-config=tensorrt,version-compatible=true"
