"""Finds the `Ranker` that a command's NAME means, with the weights that fit it."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from cleave.builders.contract.location import WEIGHTS_SUFFIX, Sizes
from cleave.builders.errors import BuilderError
from cleave.builders.spec import Ranker
from cleave.builders.user_code.failure import user_code_error
from cleave.builders.user_code.imports import module_from_file, module_from_name
from cleave.builders.user_code.wrappers import unwrapped
from cleave.builders.zoo import BASELINES, ZOO
from cleave.builders.zoo.trained import WEIGHTS, TrainedWeights

RANDOM_WEIGHTS_SEED = 0

MODELS = {**ZOO, **BASELINES}


class LoadError(BuilderError):
    """No ranker is found under a name, or it does not have the sizes that were given."""


def load_ranker(name: str, sizes: Sizes | None = None, weights: Path = WEIGHTS) -> Ranker:
    """The ranker called `name`, in evaluation mode.

    Args:
        name: a zoo model, a file of weights that `cleave train` wrote, `module:attribute` or `file.py:attribute`. The
            attribute is a `Ranker`, or a function that makes one of sizes, which are keywords with defaults.
        sizes: other sizes for a zoo model, or for such a function. A zoo model gets random weights, always the same,
            where no trained ones fit; a function makes its own, and draws the same random ones each time.
        weights: the folder of the zoo's trained weights.

    Raises:
        LoadError: nothing is found under the name, or a size is unknown.
        WeightsError: the weights are no longer of the model.
        UserCodeError: a user's file fails.
    """
    if ":" in name or name.endswith(".py"):
        ranker = _from_attribute(name, sizes or {})
    else:
        model, chosen, trained = _from_zoo(name, sizes or {}, weights)
        ranker = random_ranker(model, chosen)
        if trained is not None:
            trained.load_into(ranker.module)
    ranker.module.eval()
    return ranker


def described_weights(name: str, sizes: Sizes | None = None, weights: Path = WEIGHTS) -> str:
    """Where the weights that `load_ranker` gives come from."""
    if ":" in name:
        return f"those of {name}"
    _, _, trained = _from_zoo(name, sizes or {}, weights)
    if trained is not None:
        return f"trained by `{trained.command}`"
    return f"random (seed {RANDOM_WEIGHTS_SEED}), as the zoo has no trained ones of these sizes"


def zoo_names(given: Sequence[str]) -> list[str]:
    """The models that are given, or all models and baselines of the zoo if none is.

    Raises:
        LoadError: there is no such model.
    """
    names = list(given) or list(MODELS)
    for name in names:
        zoo_sizes(name, {})
    return names


def zoo_sizes(name: str, sizes: Sizes) -> dict[str, int | float]:
    """Every size of the zoo model `name`: `sizes`, and its defaults for the others.

    Raises:
        LoadError: there is no such model or size, or a size is no number of its kind.
    """
    if name not in MODELS:
        raise LoadError(
            f"model {name!r}: not in the zoo ({', '.join(MODELS)}); use one of these, module:attribute, "
            f"file.py:attribute or FILE{WEIGHTS_SUFFIX} from `cleave train`"
        )
    return _checked_sizes(name, MODELS[name], sizes)


def random_ranker(name: str, sizes: Sizes, seed: int = RANDOM_WEIGHTS_SEED) -> Ranker:
    """The zoo model `name` with random weights, which are always the same for one seed.

    Raises:
        LoadError: as `zoo_sizes`, or the sizes contradict each other.
    """
    chosen = zoo_sizes(name, sizes)
    with _seeded(seed):
        try:
            return MODELS[name](**chosen)
        except ValueError as error:
            raise LoadError(f"--size: {name}: {error}") from error


def _checked_sizes(name: str, make: Callable[..., object], sizes: Sizes) -> dict[str, int | float]:
    """Every size of a function that makes a ranker: `sizes`, and its defaults for the others."""
    parameters = inspect.signature(make).parameters
    known = {
        key: value.default
        for key, value in parameters.items()
        if isinstance(value.default, int | float) and not isinstance(value.default, bool)
    }
    for key, size in sizes.items():
        if key not in known:
            raise LoadError(f"--size: {name} has no size {key!r}; its sizes are {', '.join(known) or 'none'}")
        if isinstance(known[key], int) and not isinstance(size, int):
            raise LoadError(f"--size: {name}: {key}: expected a whole number, got {size}; leave the fraction out")
        if isinstance(known[key], int) and size < 1:
            raise LoadError(f"--size: {name}: {key}: expected at least 1, got {size}; choose a larger number")
    return {**known, **sizes}


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers from a seed, and afterwards from where they were."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        yield


def _from_zoo(name: str, sizes: Sizes, folder: Path) -> tuple[str, dict[str, int | float], TrainedWeights | None]:
    """The zoo model of a name, its sizes, and the trained weights of these sizes if there are any."""
    if name.endswith(WEIGHTS_SUFFIX):
        if sizes:
            raise LoadError(f"--size: the file {name!r} has the sizes of its model; leave --size out")
        trained = TrainedWeights.read(Path(name))
        return trained.model, zoo_sizes(trained.model, trained.sizes), trained
    known = TrainedWeights.of_zoo(name, folder)
    if known is None:
        return name, zoo_sizes(name, sizes), None
    chosen = zoo_sizes(name, {**known.sizes, **sizes})
    return name, chosen, known if chosen == zoo_sizes(name, known.sizes) else None


def _from_attribute(name: str, sizes: Sizes) -> Ranker:
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise LoadError(
            f"model {name!r}: expected module:attribute or file.py:attribute; write the name of the Ranker behind a "
            f"colon, as in {(place or name).strip(':')}:ranker"
        )
    module = module_from_file(Path(place)) if place.endswith(".py") else module_from_name(place)
    ranker = getattr(module, attribute, None)
    if inspect.isfunction(ranker):
        ranker = _made(name, ranker, sizes)
    elif sizes:
        raise LoadError(
            f"--size: {name!r} is no function, expected one that takes sizes as keywords; leave --size out, or write a "
            "function that returns the Ranker"
        )
    if not isinstance(ranker, Ranker):
        found = "nothing" if ranker is None else type(ranker).__name__
        others = [f"{place}:{other}" for other, value in vars(module).items() if isinstance(value, Ranker)]
        remedy = f"give {' or '.join(others)}" if others else "make one with cleave.builders.Ranker"
        raise LoadError(f"model {name!r}: expected {attribute!r} to be a Ranker, got {found}; {remedy}")
    return unwrapped(ranker)


def _made(name: str, make: Callable[..., object], sizes: Sizes) -> object:
    """What a function of the user's returns, called with all its sizes."""
    chosen = _checked_sizes(name, make, sizes)
    try:
        with _seeded(RANDOM_WEIGHTS_SEED), contextlib.redirect_stdout(sys.stderr):
            return make(**chosen)
    except (Exception, SystemExit) as error:
        raise user_code_error(
            error, f"model {name!r}", "make the function return a Ranker for the sizes that it was called with"
        ) from error
