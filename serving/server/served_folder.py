"""The folder of links that Triton serves from, where the version of each model is its build.

In the repository every build has the version 1. `cleave.builders.contract.build_version` says what the other number is
for. The folder holds what is served and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cleave.builders.names import CONFIG_FILE, CONFIGS_FOLDER, VERSION_FOLDER


def link_models(folder: Path, repository: Path, versions: Mapping[str, str]) -> None:
    """Fill `folder` with a folder for each model, which links to that of the repository.

    Args:
        versions: the version to serve of each model.
    """
    for model, version in versions.items():
        source, target = repository.resolve() / model, folder / model
        target.mkdir(parents=True)
        (target / version).symlink_to(source / VERSION_FOLDER)
        for name in (CONFIG_FILE, CONFIGS_FOLDER):
            if (source / name).exists():
                (target / name).symlink_to(source / name)


def built_version(served: Path, version: str) -> Path:
    """The folder of a version in the repository that was built.

    Args:
        served: the model's folder as Triton tells a backend: one of links, or the repository's own.
        version: the version that Triton loads.
    """
    folder = served / version
    return folder.readlink() if version != VERSION_FOLDER and folder.is_symlink() else folder
