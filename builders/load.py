"""Finds the `Ranker` that a command's NAME means, with the weights that fit it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cleave.builders.contract.location import Sizes
from cleave.builders.errors import BuilderError
from cleave.builders.spec import Ranker
from cleave.builders.user_code.imports import module_from_file, module_from_name
from cleave.builders.zoo import BASELINES, ZOO

WEIGHTS = Path(__file__).parent / "zoo" / "weights"
"""Trained weights of the zoo: NAME.safetensors, whose metadata `sizes` holds the arguments of the zoo function."""

RANDOM_WEIGHTS_SEED = 0

MODELS = {**ZOO, **BASELINES}


class SourceError(BuilderError):
    """NAME or its sizes lead to no ranker."""


def load_ranker(name: str, sizes: Sizes | None = None, weights: Path = WEIGHTS) -> Ranker:
    """The ranker called `name`, in evaluation mode.

    Args:
        name: a zoo model, `module:attribute` or `file.py:attribute`.
        sizes: other sizes for a zoo model; it gets random weights, always the same, where no trained ones fit.
        weights: the folder of trained weights.

    Raises:
        SourceError: nothing is found under the name, or a size is unknown.
    """
    ranker = _from_attribute(name, sizes or {}) if ":" in name else _from_zoo(name, sizes or {}, weights)
    ranker.module.eval()
    return ranker


def zoo_names(given: Sequence[str]) -> list[str]:
    """The models given, all known ones and the baselines if none is.

    Raises:
        SourceError: there is no such model.
    """
    names = list(given) or list(MODELS)
    for name in names:
        zoo_sizes(name, {})
    return names


def zoo_sizes(name: str, sizes: Sizes) -> dict[str, int | float]:
    """Every size of the zoo model `name`: its defaults, with `sizes` instead where given.

    Raises:
        SourceError: there is no such model or size, or a size is no number of its kind.
    """
    if name not in MODELS:
        raise SourceError(
            f"model {name!r}: not in the zoo ({', '.join(MODELS)}); "
            "use one of these, module:attribute or file.py:attribute"
        )
    parameters = inspect.signature(MODELS[name]).parameters
    known = {key: value.default for key, value in parameters.items() if isinstance(value.default, int | float)}
    for key, size in sizes.items():
        if key not in known:
            raise SourceError(f"--size: {name} has no size {key!r}; its sizes are {', '.join(known)}")
        if isinstance(known[key], int) and not isinstance(size, int):
            raise SourceError(f"--size: {name}: {key}: expected a whole number, got {size}; leave the fraction out")
        if isinstance(known[key], int) and size < 1:
            raise SourceError(f"--size: {name}: {key}: expected at least 1, got {size}; choose a larger number")
    return {**known, **sizes}


def random_ranker(name: str, sizes: Sizes, seed: int = RANDOM_WEIGHTS_SEED) -> Ranker:
    """The zoo model `name` with random weights, always the same of one seed.

    Raises:
        SourceError: as `zoo_sizes`, or the sizes contradict each other.
    """
    chosen = zoo_sizes(name, sizes)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        try:
            return MODELS[name](**chosen)
        except ValueError as error:
            raise SourceError(f"--size: {name}: {error}") from error


def _from_zoo(name: str, sizes: Sizes, weights: Path) -> Ranker:
    file = weights / f"{name}.safetensors"
    trained = trained_sizes(file)
    ranker = random_ranker(name, {**trained, **sizes})
    # A size that a model has got since it was trained has its default.
    if file.exists() and zoo_sizes(name, {**trained, **sizes}) == zoo_sizes(name, trained):
        ranker.module.load_state_dict(load_file(file))
    return ranker


def trained_sizes(file: Path) -> dict[str, int | float]:
    """The sizes that a file of weights was trained with; none where there is no file."""
    if not file.exists():
        return {}
    with safe_open(file, framework="pt") as opened:
        sizes: dict[str, int | float] = json.loads(opened.metadata()["sizes"])
    return sizes


def _from_attribute(name: str, sizes: Sizes) -> Ranker:
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise SourceError(
            f"model {name!r}: expected module:attribute or file.py:attribute; name both sides of the colon"
        )
    if sizes:
        raise SourceError(f"--size: only zoo models have sizes, {name!r} is not one; leave --size out")
    module = module_from_file(Path(place)) if place.endswith(".py") else module_from_name(place)
    ranker = getattr(module, attribute, None)
    if not isinstance(ranker, Ranker):
        found = "nothing" if ranker is None else type(ranker).__name__
        raise SourceError(
            f"model {name!r}: expected {attribute!r} to be a Ranker, got {found}; make one with cleave.builders.Ranker"
        )
    return ranker
