"""From a cut to the folders that `tritonserver --model-repository` loads."""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import onnx

from cleave import DISTRIBUTION
from cleave.builders.contract.manifest import Manifest, fingerprint_of, write_manifest
from cleave.builders.contract.proof import Proof
from cleave.builders.cut.cut import Cut
from cleave.builders.errors import BuilderError
from cleave.builders.files import sha256_of, write_text
from cleave.builders.names import ONNX_FILE, VERSION_FOLDER
from cleave.builders.targets.registry import TARGETS
from cleave.builders.targets.target import Built, BuiltEngine
from cleave.builders.triton.configs import texts_of
from cleave.builders.triton.graphs import artifacts_of
from cleave.builders.triton.rules import check_configs

RECORDED_PACKAGES = (DISTRIBUTION, "onnx", "onnxruntime", "torch")


class RepositoryError(BuilderError):
    """The model repository cannot be written."""


def write_repository(
    cut: Cut,
    folder: Path,
    build_command: str,
    built: Built | None = None,
    tolerance: float | None = None,
    weights: str | None = None,
    proof: Proof | None = None,
) -> str:
    """Write configs, artifacts and manifests; the previous build stays whole until this one is complete.

    Everything is written to a staging folder first and then renamed into place.

    Args:
        built: what a target made of the cut; the engines of a previous build go with it.
        tolerance: of the proof, where the build was told one; kept in the manifests.
        weights: where they come from; kept in the manifests.
        proof: what was tried before; kept in the manifests.

    Returns:
        The fingerprint of the build.

    Raises:
        ConfigError: the configs do not fit together.
        RepositoryError: the folder cannot be written.
    """
    artifacts = artifacts_of(cut)
    fingerprint = fingerprint_of(model for model in artifacts.values() if model is not None)
    texts = _texts(cut, build_command, built)
    build = _Build(cut.ranker.name, fingerprint, build_command, tolerance, weights, proof)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _staging(folder) as staging:
            for model, onnx_model in artifacts.items():
                engine = None if built is None else built.engines.get(model)
                build.write_version(staging / model / VERSION_FOLDER, onnx_model, engine)
                for file, text in texts[model].items():
                    write_text(staging / model / file, text)
            _swap_in(staging, folder, {model: list(files) for model, files in texts.items()})
    except OSError as error:
        raise RepositoryError(f"model repository {str(folder)!r}: {error}; choose another with --out") from error
    return fingerprint


def _texts(cut: Cut, build_command: str, built: Built | None = None) -> dict[str, dict[str, str]]:
    """The text of each config file of each model: every target's, with the engines that one of them built.

    Raises:
        ConfigError: they break a rule.
    """
    texts: dict[str, dict[str, str]] = {}
    for target in TARGETS.values():
        made = built.configs if built is not None and built.target == target.name else target.configs(cut)
        check_configs(made, target.rules())
        for model, text in texts_of(made, build_command).items():
            texts.setdefault(model, {})[target.config_file] = text
    return texts


@dataclass(frozen=True)
class _Build:
    """What the manifests of one build have in common."""

    ranker: str
    fingerprint: str
    command: str
    tolerance: float | None
    weights: str | None
    proof: Proof | None

    def write_version(self, folder: Path, onnx_model: onnx.ModelProto | None, engine: BuiltEngine | None) -> None:
        """Write a model's graph, its engine and its manifest where it has them."""
        folder.mkdir(parents=True)
        artifact = folder / ONNX_FILE
        if onnx_model is not None:
            artifact.write_bytes(onnx_model.SerializeToString(deterministic=True))
        if engine is not None:
            (folder / engine.record.file).write_bytes(engine.engine)
        manifest = Manifest(
            model=folder.parent.name,
            ranker=self.ranker,
            fingerprint=self.fingerprint,
            artifact=None if onnx_model is None else artifact.name,
            sha256=None if onnx_model is None else sha256_of(artifact),
            build_command=self.command,
            versions={package: version(package) for package in RECORDED_PACKAGES},
            plan=None if engine is None else engine.record,
            weights=self.weights,
            tolerance=self.tolerance,
            proof=self.proof,
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


def _swap_in(staging: Path, folder: Path, config_files: Mapping[str, Sequence[str]]) -> None:
    """Put what is staged in the place of the previous build, or undo it all.

    Every previous version leaves before the first new one comes: where the process is killed in between, and nothing
    can be undone, models are refused for the version that they lack, and no parts of two builds meet.

    Args:
        config_files: of each model, in its folder.
    """
    with contextlib.ExitStack() as undo:
        for model, files in config_files.items():
            for place in dict.fromkeys([folder / model, *((folder / model / file).parent for file in files)]):
                if not place.exists():
                    undo.callback(_remove_if_empty, place)
                    place.mkdir()
            _move(folder / model / VERSION_FOLDER, staging / f"{model}.previous", undo)
        for model, files in config_files.items():
            for file in files:
                _move(folder / model / file, staging / f"{model}.previous.{Path(file).name}", undo)
                _move(staging / model / file, folder / model / file, undo)
        for model in config_files:
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


def config_differences(cut: Cut, folder: Path, build_command: str) -> str:
    """What differs between the configs of a folder and those that a build would write; empty if nothing does."""
    lines: list[str] = []
    for model, texts in _texts(cut, build_command).items():
        for name, text in texts.items():
            file = folder / model / name
            found = file.read_text() if file.is_file() else ""
            lines += difflib.unified_diff(
                found.splitlines(), text.splitlines(), str(file), f"{model}/{name} of this build", lineterm=""
            )
    return "\n".join(lines)
