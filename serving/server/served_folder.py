"""The folder of links that Triton serves from, where the version of each model is its build.

In the repository every build has the version 1. `cleave.builders.contract.build_version` says what the other number is
for. The folder holds what is served and nothing else. Its configs are those of the repository with the limits of this
server: see `cleave.serving.limits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cleave.builders.names import CONFIG_FILE, CONFIGS_FOLDER, VERSION_FOLDER
from cleave.serving.limits import Limits
from cleave.serving.server.served_config import served_text


def link_models(folder: Path, repository: Path, versions: Mapping[str, str], limits: Limits) -> None:
    """Fill `folder` with a folder for each model, which links to that of the repository, and with configs of its own.

    Args:
        versions: the version to serve of each model.
        limits: what the configs say beside those of the repository.
    """
    for model, version in versions.items():
        source, target = repository.resolve() / model, folder / model
        target.mkdir(parents=True)
        (target / version).symlink_to(source / VERSION_FOLDER)
        for file in (source / CONFIG_FILE, *source.glob(f"{CONFIGS_FOLDER}/*")):
            name = file.relative_to(source)
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).write_text(served_text(file.read_text(), limits))


def built_version(served: Path, version: str) -> Path:
    """The folder of a version in the repository that was built.

    Args:
        served: the model's folder as Triton tells a backend: one of links, or the repository's own.
        version: the version that Triton loads.
    """
    folder = served / version
    return folder.readlink() if version != VERSION_FOLDER and folder.is_symlink() else folder
