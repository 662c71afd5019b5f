"""Where a build is: the folder that `cleave build` writes and others read, by the model's name and its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cleave.builders.contract.errors import ContractError
from cleave.builders.names import MODEL_REPOSITORY

DEFAULT_FOLDER = Path(MODEL_REPOSITORY)
SIZED_FOLDER = Path(".cleave") / "repositories"
"""Where models of other sizes or weights go, so that they never overwrite the committed configs."""

WEIGHTS_SUFFIX = ".safetensors"
"""What the name of a file of trained weights ends with; as the NAME of a model it means that zoo model with them."""

Sizes = Mapping[str, int | float]
"""Arguments of a function that makes a ranker, a zoo model's or a user's, by name."""


class SizesError(ContractError):
    """Sizes that are not written as `name=number,...`."""


def parse_sizes(text: str) -> dict[str, int | float]:
    """`layers=3,dropout=0.2` as a dictionary.

    Raises:
        SizesError: the text is something else.
    """
    sizes: dict[str, int | float] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        number = value.strip()
        try:
            sizes[key.strip()] = int(number) if number.lstrip("-").isdecimal() else float(number)
        except ValueError as error:
            raise SizesError(
                f"--size: expected name=number pairs like layers=3,width=128, got {part!r}; write numbers"
            ) from error
    return sizes


def repository_folder(name: str, sizes: Sizes) -> Path:
    """Where a build goes, and a server looks, if not told: `model_repository`, or, for other sizes than the zoo's and
    for weights of one's own, a folder of its own."""
    own = bool(sizes) or name.endswith(WEIGHTS_SUFFIX)
    return SIZED_FOLDER / build_name(name, sizes) if own else DEFAULT_FOLDER


def build_name(name: str, sizes: Sizes) -> str:
    """What a folder for one model of these sizes is called: `append-layers3-width128`; for weights, as their file."""
    if name.endswith(WEIGHTS_SUFFIX):
        name = Path(name).stem
    return "-".join([name.replace("/", "_"), *(f"{key}{value}" for key, value in sorted(sizes.items()))])
