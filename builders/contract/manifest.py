"""What an artifact says of itself: written beside it by the build, checked before it is served."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from cleave.builders.contract.engine_record import Plan
from cleave.builders.errors import BuilderError
from cleave.builders.names import MANIFEST_FILE, VERSION_FOLDER

FORMAT = 1


class ManifestError(BuilderError):
    """An artifact that is missing, incomplete, altered or of another build."""


@dataclass(frozen=True)
class Manifest:
    """`fingerprint` names the weights and graph of the whole model, so parts of one build share it."""

    model: str
    ranker: str
    fingerprint: str
    artifact: str | None
    """File name of the artifact beside the manifest; None for an ensemble, which has none."""
    sha256: str | None
    """Digest of the artifact's bytes."""
    build_command: str
    versions: dict[str, str]
    plan: Plan | None = None
    """The engine beside the artifact, where one was built."""
    format: int = FORMAT


def sha256_of(file: Path) -> str:
    """The digest of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into a version folder."""
    (folder / MANIFEST_FILE).write_text(json.dumps(dataclasses.asdict(manifest), indent=2) + "\n")


def read_manifest(model_folder: Path) -> Manifest:
    """The manifest of a model of a repository, with its artifact checked against it.

    Args:
        model_folder: the model's folder, `<repository>/<model>`.

    Raises:
        ManifestError: says which file is missing, altered or foreign, and the command that builds it.
    """
    file = model_folder / VERSION_FOLDER / MANIFEST_FILE
    remedy = f"run `cleave build` for it with --out {model_folder.parent}, and for engines with --target tensorrt"
    if not file.is_file():
        raise ManifestError(f"{file}: no such file, so {model_folder.name} was never built here; {remedy}")
    try:
        manifest = _manifest_from_json(file.read_text())
    except (TypeError, ValueError) as error:
        raise ManifestError(f"{file}: not a manifest of format {FORMAT} ({error}); {remedy}") from error
    remedy = f"run `{manifest.build_command}`"
    if manifest.format != FORMAT:
        raise ManifestError(f"{file}: expected format {FORMAT}, got {manifest.format}; {remedy}")
    if manifest.model != model_folder.name:
        raise ManifestError(f"{file}: expected model {model_folder.name!r}, got {manifest.model!r}; {remedy}")
    if manifest.artifact is not None:
        check_file(file.parent / manifest.artifact, manifest.sha256, remedy)
    return manifest


def _manifest_from_json(text: str) -> Manifest:
    fields = dict(json.loads(text))
    plan = fields.pop("plan", None)
    return Manifest(**fields, plan=None if plan is None else Plan(**plan))


def check_file(file: Path, sha256: str | None, remedy: str) -> None:
    """Refuse a file that is not the one of its manifest.

    Raises:
        ManifestError: it is missing or altered; ends with `remedy`.
    """
    if not file.is_file():
        raise ManifestError(f"{file}: no such file; {remedy}")
    if sha256_of(file) != sha256:
        raise ManifestError(f"{file}: not the file its manifest describes (other digest); {remedy}")


def check_one_build(model_folders: list[Path]) -> list[Manifest]:
    """The manifests of models that are served together, all of one build of their ranker.

    Raises:
        ManifestError: as `read_manifest`, or the parts are of different builds.
    """
    manifests = [read_manifest(folder) for folder in model_folders]
    for ranker in {manifest.ranker for manifest in manifests}:
        parts = [manifest for manifest in manifests if manifest.ranker == ranker]
        for part in parts[1:]:
            if part.fingerprint != parts[0].fingerprint:
                raise ManifestError(
                    f"{part.model}: expected fingerprint {parts[0].fingerprint[:12]} as {parts[0].model} has, got "
                    f"{part.fingerprint[:12]}, so they are of different builds; run `{part.build_command}`"
                )
    return manifests
