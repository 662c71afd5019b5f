"""What an artifact says of itself: written beside it by the build, checked before it is served."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cleave.builders.contract.engine_record import EngineRecord
from cleave.builders.contract.errors import ContractError
from cleave.builders.contract.origin import check_build_command, remedy_for
from cleave.builders.contract.proof import Proof
from cleave.builders.contract.records import RecordError, record_from_json
from cleave.builders.files import sha256_of, write_text
from cleave.builders.names import MANIFEST_FILE, VERSION_FOLDER

if TYPE_CHECKING:
    import onnx

FORMAT = 1


class ManifestError(ContractError):
    """An artifact that is missing, incomplete, altered or of another build."""


@dataclass(frozen=True)
class Manifest:
    """`fingerprint` names the weights and graph of the whole model, so parts of one build share it.

    Raises:
        ValueError: the format is another, or the build command is none.
    """

    model: str
    ranker: str
    fingerprint: str
    artifact: str | None
    """File name of the artifact beside the manifest; None for an ensemble, which has none."""
    sha256: str | None
    """Digest of the artifact's bytes."""
    build_command: str
    versions: dict[str, str]
    plan: EngineRecord | None = None
    """The engine beside the artifact, where one was built."""
    weights: str | None = None
    """Where the weights come from: random ones are said to be."""
    tolerance: float | None = None
    """How far scores may be from those of torch, as a share of their spread, where the build was told."""
    proof: Proof | None = None
    """What was tried before it was built."""
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format: expected {FORMAT}, got {self.format}")
        check_build_command(self.build_command)


def fingerprint_of(models: Iterable[onnx.ModelProto]) -> str:
    """A digest of weights and graphs: equal for equal models, whenever and wherever they are exported."""
    digest = hashlib.sha256()
    for model in models:
        digest.update(hashlib.sha256(model.SerializeToString(deterministic=True)).digest())
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into a version folder."""
    write_text(folder / MANIFEST_FILE, json.dumps(dataclasses.asdict(manifest), indent=2) + "\n")


def read_manifest(model_folder: Path, *, engine: bool = False) -> Manifest:
    """The manifest of a model of a repository; what it says of files is not checked.

    Args:
        model_folder: the model's folder, `<repository>/<model>`.
        engine: whether the model is to be served as an engine, which the remedy then builds, too.

    Raises:
        ManifestError: it is missing, no manifest, or another model's; says what builds it.
    """
    file = model_folder / VERSION_FOLDER / MANIFEST_FILE
    remedy = remedy_for(model_folder, engine=engine)
    if not file.is_file():
        raise ManifestError(f"{file}: no such file, so {model_folder.name} is not built here; {remedy}")
    try:
        manifest = record_from_json(Manifest, file.read_text())
    except (UnicodeDecodeError, RecordError) as error:
        raise ManifestError(f"{file}: not a manifest ({error}); {remedy}") from error
    if manifest.model != model_folder.name:
        raise ManifestError(f"{file}: expected model {model_folder.name!r}, got {manifest.model!r}; {remedy}")
    return manifest


def check_artifact(model_folder: Path, manifest: Manifest) -> None:
    """Read the whole artifact of a model, and refuse one that is not of its manifest.

    Raises:
        ManifestError: it is missing or altered; says what builds it.
    """
    if manifest.artifact is not None:
        check_digest(model_folder, manifest.artifact, manifest.sha256)


def check_digest(model_folder: Path, name: str, sha256: str | None, *, engine: bool = False) -> None:
    """Read the whole file `name` of a model, and refuse one that is not of its manifest.

    Raises:
        ManifestError: it is missing or has another digest; says what builds it, with `engine` as an engine.
    """
    file = model_folder / VERSION_FOLDER / name
    if not file.is_file():
        raise ManifestError(f"{file}: no such file; {remedy_for(model_folder, engine=engine)}")
    if sha256_of(file) != sha256:
        raise ManifestError(
            f"{file}: not the file its manifest describes (other digest); {remedy_for(model_folder, engine=engine)}"
        )


def check_one_build(model_folders: Sequence[Path]) -> list[Manifest]:
    """The manifests of models that are served together, all unaltered and of one build of their ranker.

    Raises:
        ManifestError: as `read_manifest` and `check_artifact`, or the parts are of different builds.
    """
    manifests = [read_manifest(folder) for folder in model_folders]
    first: dict[str, Manifest] = {}
    for folder, part in zip(model_folders, manifests, strict=True):
        other = first.setdefault(part.ranker, part)
        if part.fingerprint != other.fingerprint:
            raise ManifestError(
                f"{part.model}: expected fingerprint {other.fingerprint[:12]} as {other.model} has, got "
                f"{part.fingerprint[:12]}, so they are of different builds; {remedy_for(folder)}"
            )
    for folder, part in zip(model_folders, manifests, strict=True):
        check_artifact(folder, part)
    return manifests
