"""Which models of a repository a server loads for a ranker, and that they are fit to be served together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cleave.builders.contract.engine_record import Plan
from cleave.builders.contract.manifest import check_one_build, read_manifest
from cleave.builders.names import CONFIG_FILE, MANIFEST_FILE, SUFFIXES, TENSORRT_CONFIG, VERSION_FOLDER
from cleave.serving.errors import ServingError
from cleave.serving.server.engines import REBUILT_FOR, check_plans


def models_of(repository: Path, ranker: str, config_name: str | None = None) -> list[str]:
    """The names of all models of a ranker, sorted.

    Args:
        config_name: as of `check_models`; the command that builds what is not there names the engines that it needs.

    Raises:
        ServingError: the repository or the ranker is not there, or one of its models was never built.
    """
    owners = _owners(repository)
    models = sorted(model for model, owner in owners.items() if owner == ranker)
    target = f" {REBUILT_FOR}" if config_name == TENSORRT_CONFIG else ""
    unbuilt = [f"{ranker}{s}" for s in SUFFIXES if f"{ranker}{s}" in owners and owners[f"{ranker}{s}"] is None]
    if unbuilt:
        raise ServingError(
            f"{repository / unbuilt[0] / VERSION_FOLDER / MANIFEST_FILE}: no such file, so {unbuilt[0]} is not built; "
            f"run `cleave build {ranker}{target} --out {repository}`"
        )
    if not models:
        held = sorted({owner for owner in owners.values() if owner}) or ["nothing that was built"]
        raise ServingError(
            f"ranker {ranker!r}: not in {repository}, which holds {', '.join(held)}; "
            f"build it with `cleave build {ranker}{target}`, or name another folder with --repository"
        )
    return models


def check_models(repository: Path, models: Sequence[str], config_name: str | None = None) -> list[Plan]:
    """Refuse models whose ranker is not whole, unaltered and of one build in this repository.

    All models of the ranker are checked, not only those asked for, as an ensemble brings others along.

    Args:
        config_name: models with a `configs/<config_name>.pbtxt` are served by it.

    Returns:
        The engines that a server loads.

    Raises:
        ServingError: the repository or a model is not there.
        ManifestError: an artifact or an engine is missing, altered, foreign, or of another build than its siblings.
        MachineError: engines are to be served, and there is no GPU.
    """
    owners = _owners(repository)
    for model in models:
        if model not in owners:
            raise ServingError(
                f"model {model!r}: not in {repository}, which holds {', '.join(sorted(owners)) or 'no model'}; "
                "correct the name"
            )
    rankers = {read_manifest(repository / model).ranker for model in models}
    manifests = check_one_build([repository / model for model in sorted(owners) if owners[model] in rankers])
    return check_plans(repository, manifests, config_name)


def _owners(repository: Path) -> dict[str, str | None]:
    """The ranker of each model folder as its manifest says; None without a readable one."""
    if not repository.is_dir():
        raise ServingError(
            f"model repository {str(repository)!r}: no such folder; run `cleave build` or name another by --repository"
        )
    return {file.parent.name: _owner(file.parent) for file in repository.glob(f"*/{CONFIG_FILE}")}


def _owner(model_folder: Path) -> str | None:
    try:
        ranker = json.loads((model_folder / VERSION_FOLDER / MANIFEST_FILE).read_text())["ranker"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return ranker if isinstance(ranker, str) else None
