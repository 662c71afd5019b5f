"""Which models of a repository a server loads for a ranker, and that they are fit to be served together."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cleave.builders.contract.build_version import version_of_build
from cleave.builders.contract.engine_record import EngineRecord
from cleave.builders.contract.manifest import Manifest, check_one_build, read_manifest
from cleave.builders.contract.origin import build_command_into, origin_of
from cleave.builders.names import CONFIG_FILE, SIGNATURE_PARAMETER, TENSORRT_CONFIG, VERSION_FOLDER, model_names
from cleave.serving.errors import ServingError
from cleave.serving.server.config_file import read_config
from cleave.serving.server.engines import fit_engines


@dataclass(frozen=True)
class CheckedModels:
    """What a server may load: models that are whole, unaltered and of one build of their ranker."""

    manifests: tuple[Manifest, ...]
    artifacts: tuple[Path, ...]
    """The graphs, which were read whole."""
    engines: tuple[EngineRecord, ...]
    """Those of them that are served as TensorRT engines."""
    versions: Mapping[str, str]
    """The models that are loaded: those asked for and the steps of ensembles among them. Each has the version of
    Triton that names its build."""


def models_of(repository: Path, ranker: str, config_name: str | None = None, size: str = "") -> list[str]:
    """The names of all models of a ranker, sorted.

    Args:
        config_name: as of `check_models`; the command that builds what is not there names the engines that it needs.
        size: as of `cleave build --size`, for that command.

    Raises:
        ServingError: the repository or the ranker is not there.
        ManifestError: one of its models was never built.
    """
    engines = config_name == TENSORRT_CONFIG
    build = shlex.join(["cleave", "build", ranker, *["--size", size] * bool(size)])
    command = build_command_into(repository, build, engines=engines)
    how = f"build it by `{command}`, with file.py:attribute in place of {ranker} if it is not of the zoo"
    owners = _owners(repository, how)
    models = sorted(model for model, owner in owners.items() if owner == ranker)
    for model in model_names(ranker):
        if model in owners and owners[model] is None:
            read_manifest(repository / model, engine=engines)
    if not models:
        held = sorted({owner for owner in owners.values() if owner}) or ["nothing that was built"]
        raise ServingError(
            f"ranker {ranker!r}: not in {repository}, which holds {', '.join(held)}; {how}, or name another folder "
            "with --repository"
        )
    return models


def check_models(repository: Path, models: Sequence[str], config_name: str | None = None) -> CheckedModels:
    """Refuse models whose ranker is not whole, unaltered and of one build in this repository.

    All models of the ranker are checked, not only those asked for, as an ensemble brings others along. Every artifact
    is read whole, once.

    Args:
        config_name: models with a `configs/<config_name>.pbtxt` are served by it.

    Raises:
        ServingError: the repository or a model is not there, or a config is none.
        ManifestError: an artifact or an engine is missing, altered, foreign, or of another build than its siblings.
        HostError: engines are to be served, and there is no GPU.
    """
    owners = _owners(repository, "correct the path")
    for model in models:
        if model not in owners:
            raise ServingError(
                f"model {model!r}: not in {repository}, which holds {', '.join(sorted(owners)) or 'no model'}; "
                "correct the name"
            )
    rankers = {read_manifest(repository / model).ranker for model in models}
    manifests = check_one_build([repository / model for model in sorted(owners) if owners[model] in rankers])
    versions = _versions(repository, manifests)
    graphs = [(each.model, each.artifact) for each in manifests if each.artifact is not None]
    return CheckedModels(
        manifests=tuple(manifests),
        artifacts=tuple(repository / model / VERSION_FOLDER / artifact for model, artifact in graphs),
        engines=tuple(fit_engines(repository, manifests, config_name)),
        versions={model: versions[model] for model in _with_steps(repository, models)},
    )


def _with_steps(repository: Path, models: Iterable[str]) -> set[str]:
    """These models, and those that the ensembles among them are made of."""
    found: set[str] = set()
    asked = list(models)
    while asked:
        model = asked.pop()
        if model not in found:
            found.add(model)
            config = read_config(repository / model, CONFIG_FILE)
            asked += [step.model_name for step in config.ensemble_scheduling.step]
    return found


def _versions(repository: Path, manifests: Sequence[Manifest]) -> dict[str, str]:
    """The version of each model, the same for all models of a ranker."""
    published: dict[str, dict[str, str]] = {}
    for part in manifests:
        config = read_config(repository / part.model, CONFIG_FILE)
        published.setdefault(part.ranker, {})[part.model] = config.parameters[SIGNATURE_PARAMETER].string_value
    return {part.model: version_of_build(part.fingerprint, published[part.ranker]) for part in manifests}


def _owners(repository: Path, remedy: str) -> dict[str, str | None]:
    """The ranker of each model folder as its manifest says; None without a readable one."""
    if not repository.is_dir():
        raise ServingError(f"model repository {str(repository)!r}: no such folder; {remedy}")
    folders = [file.parent for file in repository.glob(f"*/{CONFIG_FILE}")]
    origins = {folder.name: origin_of(folder) for folder in folders}
    return {model: None if origin is None else origin.ranker for model, origin in origins.items()}
