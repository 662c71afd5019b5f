"""A stand-in for the base image where no registry of images can be reached: Debian with its own Python, from packages.

It has the name of the image that the Dockerfile asks for, and what of it the Dockerfile uses: `python`, `pip` and
libpython. Package indexes and certificates are the machine's, mounted for the build alone.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.deploy.files import ROOT, arguments

CACHE = ROOT / ".cleave" / "image"
PACKAGES = ("ca-certificates", "libpython3.11", "python-is-python3", "python3-pip")
BUILD_S = 300
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def base_image() -> str:
    """The name of the image that the target cpu begins from."""
    return f"docker.io/library/python:{arguments()['PYTHON_TAG']}"


def stand_in(folder: Path) -> Path:
    """The files of the stand-in as a tar archive, made once for a checkout.

    Args:
        folder: an empty one to work in.
    """
    archive = CACHE / f"{arguments()['PYTHON_TAG']}.tar"
    if not archive.exists():
        suite = archive.stem.rpartition("-")[2]
        root = folder / "root"
        # What it mounts in there is seen by itself alone, and gone when it ends, however that is.
        alone = ["unshare", "--mount", "debootstrap", "--variant=minbase"]
        command = [*alone, f"--include={','.join(PACKAGES)}", suite, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_S)
        assert done.returncode == 0, done.stdout + done.stderr
        # Debian keeps its Python for its own packages; in the image pip may write where Python looks.
        for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            mark.unlink()
        for cache in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / cache)
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = archive.with_suffix(".partial")
        with tarfile.open(partial, "w") as written:
            written.add(root, arcname=".")
        shutil.rmtree(root)
        partial.rename(archive)
    return archive


def options_of_this_machine(folder: Path) -> tuple[list[str], dict[str, str]]:
    """How a build reaches packages as pip does here: options of the tool, and variables of `deploy/build_image.sh`.

    Args:
        folder: gets a configuration of pip.
    """
    configuration = _pip_configuration()
    options, lines, variables = [], ["[global]"], {}
    if certificates := configuration.get("cert"):
        options += ["--volume", f"{certificates}:{certificates}:ro"]
        lines.append(f"cert = {certificates}")
    folders = [each for each in configuration.get("find-links", "").split() if Path(each).is_dir()]
    for each in folders:
        options += ["--volume", f"{each}:{each}:ro"]
    if folders:
        lines.append(f"find-links = {' '.join(folders)}")
    if index := configuration.get("index-url"):
        variables["PIP_INDEX_URL"] = index
    if any(wheel for each in folders for wheel in Path(each).glob("torch-*+cpu-*.whl")):
        variables["PIP_EXTRA_INDEX_URL"] = ""  # what it is for lies here
    file = folder / "pip.conf"
    file.write_text("\n".join(lines) + "\n")
    return [*options, "--volume", f"{file}:/etc/pip.conf:ro"], variables


def _pip_configuration() -> dict[str, str]:
    """By option; what stands in a variable, which pip lists last, is before what stands in a file."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    options = [line.partition("=") for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:"))]
    return {name.rpartition(".")[2]: str(ast.literal_eval(value)) for name, _, value in options}
