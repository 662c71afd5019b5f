"""Manifests: what is missing, altered or of another build is refused by name, with the command that makes it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cleave.builders.contract.manifest import (
    Manifest,
    ManifestError,
    check_one_build,
    read_manifest,
    sha256_of,
    write_manifest,
)
from cleave.builders.errors import BuilderError

BYTES = b"an artifact"
COMMAND = "cleave build toy.py:ranker --out here"


def make(repository: Path, model: str = "toy_whole", **changes: Any) -> Path:
    """A model folder with an artifact and its manifest; `changes` are made to the manifest."""
    folder = repository / model / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(BYTES)
    manifest = Manifest(
        model=model,
        ranker="toy",
        fingerprint="a" * 64,
        artifact="model.onnx",
        sha256=hashlib.sha256(BYTES).hexdigest(),
        build_command=COMMAND,
        versions={"torch": "2.13.0"},
    )
    write_manifest(folder, dataclasses.replace(manifest, **changes))
    return repository / model


def test_what_is_written_is_read(tmp_path: Path) -> None:
    manifest = read_manifest(make(tmp_path))
    assert (manifest.model, manifest.ranker, manifest.artifact) == ("toy_whole", "toy", "model.onnx")
    assert manifest.versions == {"torch": "2.13.0"}
    assert manifest.sha256 == sha256_of(tmp_path / "toy_whole" / "1" / "model.onnx")


def test_an_ensemble_has_no_artifact(tmp_path: Path) -> None:
    assert read_manifest(make(tmp_path, "toy_uncached", artifact=None, sha256=None)).artifact is None


def test_a_model_that_was_never_built(tmp_path: Path) -> None:
    (tmp_path / "toy_whole").mkdir()
    message = (
        f"no such file, so toy_whole was never built here; run `cleave build` for it with --out {tmp_path}, and for "
        "engines with --target tensorrt"
    )
    with pytest.raises(ManifestError, match=re.escape(message)):
        read_manifest(tmp_path / "toy_whole")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": "toy"}', '{"more": 1}', "null"])
def test_a_file_that_is_no_manifest(tmp_path: Path, text: str) -> None:
    folder = make(tmp_path)
    (folder / "1" / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match=r"manifest.json: not a manifest of format 1 .*; run `cleave build` for it"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, f"manifest.json: expected format 1, got 2; run `{COMMAND}`"),
        ({"artifact": "model.plan"}, f"model.plan: no such file; run `{COMMAND}`"),
        ({"sha256": "0" * 64}, f"model.onnx: not the file its manifest describes (other digest); run `{COMMAND}`"),
    ],
)
def test_wrong_manifests(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(message)):
        read_manifest(make(tmp_path, **changes))


def test_a_manifest_of_another_model(tmp_path: Path) -> None:
    folder = make(tmp_path, "other")
    folder.rename(tmp_path / "toy_whole")
    message = f"manifest.json: expected model 'toy_whole', got 'other'; run `{COMMAND}`"
    with pytest.raises(ManifestError, match=re.escape(message)):
        read_manifest(tmp_path / "toy_whole")


def test_an_artifact_that_was_altered(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "1" / "model.onnx").write_bytes(BYTES + b"!")
    with pytest.raises(ManifestError, match="other digest"):
        read_manifest(folder)


def test_models_of_one_build_are_served_together(tmp_path: Path) -> None:
    folders = [make(tmp_path, "toy_whole"), make(tmp_path, "toy_scorer"), make(tmp_path, "other", ranker="other")]
    manifests = check_one_build(folders)
    assert [manifest.model for manifest in manifests] == ["toy_whole", "toy_scorer", "other"]


def test_models_of_two_builds_are_refused(tmp_path: Path) -> None:
    folders = [make(tmp_path, "toy_whole"), make(tmp_path, "toy_scorer", fingerprint="b" * 64)]
    message = (
        "toy_scorer: expected fingerprint aaaaaaaaaaaa as toy_whole has, got bbbbbbbbbbbb, so they are of different "
        f"builds; run `{COMMAND}`"
    )
    with pytest.raises(ManifestError, match=re.escape(message)):
        check_one_build(folders)


def test_manifests_are_readable_text(tmp_path: Path) -> None:
    written = json.loads((make(tmp_path) / "1" / "manifest.json").read_text())
    assert written["build_command"] == COMMAND
    assert issubclass(ManifestError, BuilderError)
