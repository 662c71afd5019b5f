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
    check_artifact,
    check_one_build,
    read_manifest,
    write_manifest,
)
from cleave.builders.contract.proof import Proof
from cleave.builders.errors import BuilderError
from cleave.builders.files import sha256_of

BYTES = b"an artifact"
COMMAND = "cleave build toy.py:ranker --precision float16 --out elsewhere"


def rebuild(repository: Path) -> str:
    """The remedy: the command, into the folder where the repository is now."""
    return f"run `cleave build toy.py:ranker --precision float16 --out {repository}`"


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


def test_what_was_proven_is_kept(tmp_path: Path) -> None:
    proof = Proof(7, 3, {"history": 64, "candidates": 32}, 1.5e-7, 0.4, 12.0, {"drawn": 2}, ("warned",))
    assert read_manifest(make(tmp_path, proof=proof)).proof == proof


def test_an_ensemble_has_no_artifact(tmp_path: Path) -> None:
    assert read_manifest(make(tmp_path, "toy_uncached", artifact=None, sha256=None)).artifact is None


def test_a_model_that_was_never_built(tmp_path: Path) -> None:
    make(tmp_path, "toy_uncached")
    (tmp_path / "toy_whole").mkdir()
    message = f"toy_whole/1/manifest.json: no such file, so toy_whole is not built here; {rebuild(tmp_path)}"
    with pytest.raises(ManifestError, match=re.escape(message)):
        read_manifest(tmp_path / "toy_whole")


RIGHT = json.loads(json.dumps(dataclasses.asdict(Manifest("toy_whole", "toy", "a", None, None, COMMAND, {}))))
ENGINE = {
    "file": "model.plan",
    "sha256": "",
    "tensorrt": "11.1",
    "compute_capability": "8.9",
    "version_compatible": False,
    "hardware_compatible": False,
    "profiles": [{"batch": [1, 4]}],
}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (None, "the text: expected an object, got null"),
        ([], "the text: expected an object, got []"),
        (3, "the text: expected an object, got 3"),
        ({"model": "toy_whole"}, "ranker: expected it, got none"),
        ({**RIGHT, "fingerprint": None}, "fingerprint: expected text, got null"),
        ({**RIGHT, "artifact": 3}, "artifact: expected text or null, got 3"),
        ({**RIGHT, "versions": ["2.13.0"]}, 'versions: expected an object, got ["2.13.0"]'),
        ({**RIGHT, "versions": {"torch": 2}}, "versions.torch: expected text, got 2"),
        ({**RIGHT, "plan": "model.plan"}, 'plan: expected an object or null, got "model.plan"'),
        (
            {**RIGHT, "plan": {**ENGINE, "profiles": [{"batch": 4}]}},
            "plan.profiles[0].batch: expected a list of 2, got 4",
        ),
        ({**RIGHT, "plan": {**ENGINE, "profiles": [[1, 4]]}}, "plan.profiles[0]: expected an object, got [1, 4]"),
        ({**RIGHT, "plan": {**ENGINE, "attentions": "2"}}, 'plan.attentions: expected a whole number, got "2"'),
        ({**RIGHT, "format": 2}, "format: expected 1, got 2"),
        ({**RIGHT, "build_command": "rm -r /"}, "build_command: expected `cleave build NAME`, got 'rm -r /'"),
        ({**RIGHT, "build_command": "cleave build 'a"}, "No closing quotation"),
    ],
)
def test_a_broken_manifest_is_refused_where_it_is_wrong(tmp_path: Path, written: Any, message: str) -> None:
    make(tmp_path, "toy_uncached")
    folder = make(tmp_path)
    (folder / "1" / "manifest.json").write_text(json.dumps(written))
    expected = f"{folder}/1/manifest.json: not a manifest ({message}); {rebuild(tmp_path)}"
    with pytest.raises(ManifestError, match=f"^{re.escape(expected)}$"):
        read_manifest(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json(tmp_path: Path, content: bytes) -> None:
    make(tmp_path, "toy_uncached")
    folder = make(tmp_path)
    (folder / "1" / "manifest.json").write_bytes(content)
    with pytest.raises(
        ManifestError, match=rf"/1/manifest.json: not a manifest \(.*\); {re.escape(rebuild(tmp_path))}$"
    ):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"artifact": "model.plan"}, "model.plan: no such file"),
        ({"sha256": "0" * 64}, "model.onnx: not the file its manifest describes (other digest)"),
    ],
)
def test_an_artifact_that_is_not_of_its_manifest(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = make(tmp_path, **changes)
    with pytest.raises(ManifestError, match=re.escape(f"{message}; {rebuild(tmp_path)}")):
        check_artifact(folder, read_manifest(folder))


def test_a_manifest_of_another_model(tmp_path: Path) -> None:
    folder = make(tmp_path, "other")
    folder.rename(tmp_path / "toy_whole")
    message = f"manifest.json: expected model 'toy_whole', got 'other'; {rebuild(tmp_path)}"
    with pytest.raises(ManifestError, match=re.escape(message)):
        read_manifest(tmp_path / "toy_whole")


def test_an_artifact_that_was_altered(tmp_path: Path) -> None:
    folder = make(tmp_path)
    check_one_build([folder])
    (folder / "1" / "model.onnx").write_bytes(BYTES + b"!")
    with pytest.raises(ManifestError, match="other digest"):
        check_one_build([folder])


def test_models_of_one_build_are_served_together(tmp_path: Path) -> None:
    folders = [make(tmp_path, "toy_whole"), make(tmp_path, "toy_scorer"), make(tmp_path, "other", ranker="other")]
    manifests = check_one_build(folders)
    assert [manifest.model for manifest in manifests] == ["toy_whole", "toy_scorer", "other"]


def test_models_of_two_builds_are_refused(tmp_path: Path) -> None:
    folders = [make(tmp_path, "toy_whole"), make(tmp_path, "toy_scorer", fingerprint="b" * 64)]
    message = (
        "toy_scorer: expected fingerprint aaaaaaaaaaaa as toy_whole has, got bbbbbbbbbbbb, so they are of different "
        f"builds; {rebuild(tmp_path)}"
    )
    with pytest.raises(ManifestError, match=re.escape(message)):
        check_one_build(folders)


def test_manifests_are_readable_text(tmp_path: Path) -> None:
    written = json.loads((make(tmp_path) / "1" / "manifest.json").read_text())
    assert written["build_command"] == COMMAND
    assert issubclass(ManifestError, BuilderError)
