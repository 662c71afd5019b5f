"""From a cut to the folders that `tritonserver --model-repository` loads."""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import onnx

from builders.artifacts import artifacts_of
from builders.configs import config_texts
from builders.errors import BuilderError
from builders.export import fingerprint_of
from builders.manifest import VERSION_FOLDER, Manifest, sha256_of, write_manifest
from builders.split import Cut

CONFIG_FILE = "config.pbtxt"
ARTIFACT_FILE = "model.onnx"
DEFAULT_FOLDER = Path("model_repository")
SIZED_FOLDER = Path(".cleave") / "repositories"
"""Where models of other sizes go, so that they never overwrite the committed configs."""

RECORDED_PACKAGES = ("cleave", "onnx", "onnxruntime", "torch")


class RepositoryError(BuilderError):
    """The model repository cannot be written."""


def repository_folder(name: str, sizes: Mapping[str, float]) -> Path:
    """Where a build goes, and a server looks, if not told: `model_repository`, or a folder of its own with sizes."""
    if not sizes:
        return DEFAULT_FOLDER
    return SIZED_FOLDER / build_name(name, sizes)


def build_name(name: str, sizes: Mapping[str, float]) -> str:
    """What a folder for one model of these sizes is called: `append-layers3-width128`."""
    return "-".join([name.replace("/", "_"), *(f"{key}{value}" for key, value in sorted(sizes.items()))])


def models_of(cut: Cut) -> list[str]:
    """The names of the models of the repository."""
    return list(config_texts(cut))


def write_repository(cut: Cut, folder: Path, build_command: str) -> str:
    """Write configs, artifacts and manifests; the previous build stays whole until this one is complete.

    Everything is written to a staging folder first and then renamed into place.

    Returns:
        The fingerprint of the build.

    Raises:
        RepositoryError: the folder cannot be written.
    """
    artifacts = artifacts_of(cut)
    fingerprint = fingerprint_of(model for model in artifacts.values() if model is not None)
    texts = config_texts(cut)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _staging(folder) as staging:
            for model, onnx_model in artifacts.items():
                version_folder = staging / model / VERSION_FOLDER
                version_folder.mkdir(parents=True)
                _write_version(version_folder, model, onnx_model, cut.ranker.name, fingerprint, build_command)
                (staging / model / CONFIG_FILE).write_text(texts[model])
            _swap_in(staging, folder, list(texts))
    except OSError as error:
        raise RepositoryError(f"model repository {str(folder)!r}: {error}; choose another with --out") from error
    return fingerprint


def _write_version(
    folder: Path, model: str, onnx_model: onnx.ModelProto | None, ranker: str, fingerprint: str, build_command: str
) -> None:
    artifact = None
    if onnx_model is not None:
        artifact = folder / ARTIFACT_FILE
        artifact.write_bytes(onnx_model.SerializeToString(deterministic=True))
    manifest = Manifest(
        model=model,
        ranker=ranker,
        fingerprint=fingerprint,
        artifact=None if artifact is None else artifact.name,
        sha256=None if artifact is None else sha256_of(artifact),
        build_command=build_command,
        versions={package: version(package) for package in RECORDED_PACKAGES},
    )
    write_manifest(folder, manifest)


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder beside the models, on the same file system, that is gone afterwards; Triton ignores its name."""
    staging = Path(tempfile.mkdtemp(prefix=".building-", dir=folder))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _swap_in(staging: Path, folder: Path, models: Sequence[str]) -> None:
    """Put what is staged in the place of the previous build, or undo it all.

    Every previous version leaves before the first new one comes: where the process is killed in between, and nothing
    can be undone, models are refused for the version that they lack, and no parts of two builds meet.
    """
    with contextlib.ExitStack() as undo:
        for model in models:
            if not (folder / model).exists():
                undo.callback(_remove_if_empty, folder / model)
                (folder / model).mkdir()
            _move(folder / model / VERSION_FOLDER, staging / f"{model}.previous", undo)
        for model in models:
            _move(folder / model / CONFIG_FILE, staging / f"{model}.previous.pbtxt", undo)
            _move(staging / model / CONFIG_FILE, folder / model / CONFIG_FILE, undo)
        for model in models:
            _move(staging / model / VERSION_FOLDER, folder / model / VERSION_FOLDER, undo)
        undo.pop_all()


def _move(source: Path, target: Path, undo: contextlib.ExitStack) -> None:
    if source.exists():
        undo.callback(_move_back, source, target)  # before the move: it may be interrupted right after it
        os.rename(source, target)


def _move_back(source: Path, target: Path) -> None:
    if target.exists() and not source.exists():
        os.rename(target, source)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def config_differences(cut: Cut, folder: Path) -> str:
    """What differs between the configs of a folder and those that a build would write; empty if nothing does."""
    lines: list[str] = []
    for model, text in config_texts(cut).items():
        file = folder / model / CONFIG_FILE
        found = file.read_text() if file.is_file() else ""
        lines += difflib.unified_diff(
            found.splitlines(), text.splitlines(), str(file), f"{model}/{CONFIG_FILE} of this build", lineterm=""
        )
    return "\n".join(lines)
