"""Refuses engines that this host's TensorRT or GPUs cannot run, before Triton tries to load them."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from cleave.builders.contract.engine_record import EngineRecord, Host, reason_not_runnable
from cleave.builders.contract.gpus import compute_capabilities
from cleave.builders.contract.manifest import Manifest, ManifestError, check_digest
from cleave.builders.contract.origin import remedy_for
from cleave.builders.names import PLAN_FILE, PLAN_PLATFORM, VERSION_FOLDER, named_config_file
from cleave.serving.errors import ServingError
from cleave.serving.server.config_file import read_config

EXECUTION_POLICY = "DEVICE_BLOCKING"
"""One thread of Triton launches the work of all instances of a GPU: engines are short, and threads would take turns."""

SONAMES = ("libnvinfer.so.11", "libnvinfer.so.10")


class UnfitEngineError(ManifestError):
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


def this_host() -> Host:
    """Raises: ServingError: no TensorRT; HostError: no GPU."""
    return Host(installed_tensorrt(), compute_capabilities())


def fit_engines(repository: Path, manifests: Sequence[Manifest], config_name: str | None) -> list[EngineRecord]:
    """The engines that a server would load of these models, all fit to be run here.

    Args:
        config_name: as of `--model-config-name`: models with such a config are served by it.

    Raises:
        ManifestError: an engine was never built, is altered, or is of another TensorRT or GPU; says which, and the
            command that builds it.
        ServingError, HostError: an engine is to be served, and there is no TensorRT or no GPU.
    """
    folders = {repository / manifest.model: manifest for manifest in manifests}
    engines = {
        folder: _whole_engine(folder, manifest)
        for folder, manifest in folders.items()
        if _is_an_engine(folder, config_name)
    }
    host = this_host() if engines else None
    for folder, engine in engines.items():
        assert host is not None
        reason = reason_not_runnable(engine, host)
        if reason is not None:
            file = folder / VERSION_FOLDER / engine.file
            raise UnfitEngineError(f"{file}: expected {reason}; {remedy_for(folder, engine=True)}")
    return list(engines.values())


def _is_an_engine(model_folder: Path, config_name: str | None) -> bool:
    """Whether the config that Triton takes names an engine; without one of this name it takes `config.pbtxt`."""
    if config_name is None:
        return False
    file = named_config_file(config_name)
    if not (model_folder / file).is_file():
        return False
    config = read_config(model_folder, file)
    return bool(config.platform == PLAN_PLATFORM or config.backend == "tensorrt")


def _whole_engine(folder: Path, manifest: Manifest) -> EngineRecord:
    engine = manifest.plan
    if engine is None:
        raise UnfitEngineError(
            f"{folder / VERSION_FOLDER / PLAN_FILE}: expected an engine, as the config names one, got none; "
            f"{remedy_for(folder, engine=True)}"
        )
    check_digest(folder, engine.file, engine.sha256, engine=True)
    return engine


def backend_flags(engines: Sequence[EngineRecord]) -> Iterator[str]:
    """What Triton's TensorRT backend is started with; nothing where no engine is served."""
    if engines:
        yield f"--backend-config=tensorrt,execution-policy={EXECUTION_POLICY}"
    if any(engine.version_compatible for engine in engines):
        yield "--backend-config=tensorrt,version-compatible=true"
