"""Finds a Triton on this machine, and puts together the folder of backends that it starts with."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cleave.serving.errors import ServingError

OURS = Path(__file__).parents[1] / "backends"
CONTAINER = Path("/opt/tritonserver")
PYTHON_BACKEND = "python"
STUB = "triton_python_backend_stub"

KEPT_BYTES = 1 << 30
"""Freed memory that a process keeps for its next request. By default glibc hands blocks of megabytes back, and the
next request waits for the kernel to clear them: joining 8 requests of 3 MB took 10 ms, and takes 2."""


@dataclass(frozen=True)
class Installation:
    """A tritonserver and what it needs to start."""

    binary: Path
    backends: Path
    caches: Path
    stub: Path | None = None
    """The python backend's process for this Python, where it does not lie beside the backend."""
    libraries: tuple[Path, ...] = ()
    """Folders of shared libraries that the loader does not know."""


def find_installation() -> Installation:
    """The tritonserver on PATH, in the container's place, or in the wheel `nvidia-pytriton`, in this order.

    Raises:
        ServingError: there is none, or the wheel's has no part for this Python.
    """
    for binary in (shutil.which("tritonserver"), CONTAINER / "bin" / "tritonserver"):
        if binary is not None and Path(binary).is_file():
            beside = Path(binary).resolve().parent.parent
            root = beside if (beside / "backends").is_dir() else CONTAINER
            return Installation(Path(binary), root / "backends", root / "caches")
    wheel = importlib.util.find_spec("pytriton")
    if wheel is None or not wheel.submodule_search_locations:
        raise ServingError(
            f"tritonserver: expected it on PATH, in {CONTAINER / 'bin'} or in the wheel nvidia-pytriton, got none of "
            "them; run `pip install nvidia-pytriton`, or start in NVIDIA's tritonserver container"
        )
    return _wheel_installation(Path(wheel.submodule_search_locations[0]))


def _wheel_installation(package: Path) -> Installation:
    root = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / STUB
    if not stub.is_file():
        known = ", ".join(sorted(folder.name for folder in stub.parent.parent.glob("*")))
        raise ServingError(f"nvidia-pytriton: expected Python {known}, got {version}; make the environment with one")
    return Installation(
        binary=root / "bin" / "tritonserver",
        backends=root / "backends",
        caches=root / "caches",
        stub=stub,
        libraries=(package.parent / "nvidia_pytriton.libs", _libpython_folder()),
    )


def _libpython_folder() -> Path:
    """The stub is linked against `libpython`, which a Python in a folder of its own keeps to itself."""
    name = sysconfig.get_config_var("INSTSONAME") or "libpython.so"
    folder = Path(sysconfig.get_config_var("LIBDIR") or "")
    for place in (folder, folder / (sysconfig.get_config_var("MULTIARCH") or "")):
        if (place / name).is_file():
            return place
    raise ServingError(
        f"Triton's python backend: expected {name} in {folder}, got none; install this Python's shared library "
        "(Debian: libpython3-dev) or use a Python built with --enable-shared"
    )


def assemble_backends(installation: Installation, target: Path) -> None:
    """Put the installed backends and ours into the folder `target`.

    Where one of ours stands in for an installed one, the installed one is used. Folders are linked; the python
    backend of the wheel is copied, as Triton refuses a library that is a link out of its folder.
    """
    target.mkdir(parents=True)
    for folder in installation.backends.iterdir():
        if folder.name == PYTHON_BACKEND and installation.stub is not None:
            shutil.copytree(folder, target / folder.name)
            shutil.copy2(installation.stub, target / folder.name / STUB)
        elif folder.is_dir():
            (target / folder.name).symlink_to(folder)
    for file in OURS.glob("*/model.py"):
        if not (target / file.parent.name).exists():
            (target / file.parent.name).symlink_to(file.parent)


def environment(installation: Installation) -> dict[str, str]:
    """The variables of a server, so that its backends import what this process imports and nothing else."""
    paths = sysconfig.get_paths()
    packages = dict.fromkeys((str(Path(__file__).parents[3]), paths["purelib"], paths["platlib"]))
    variables = dict(os.environ)
    # An embedded Python looks for `python3` on PATH to find its prefix and its virtual environment.
    _prepend(variables, "PATH", [Path(sys.executable).parent])
    _prepend(variables, "LD_LIBRARY_PATH", installation.libraries)
    # Not the caller's own: a `model.py` in one of its folders would be taken for the backend's.
    variables["PYTHONPATH"] = os.pathsep.join(packages)
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        variables.setdefault(name, str(KEPT_BYTES))
    return variables


def _prepend(variables: dict[str, str], name: str, folders: Sequence[Path]) -> None:
    if folders:
        variables[name] = os.pathsep.join(filter(None, [*map(str, folders), variables.get(name)]))
