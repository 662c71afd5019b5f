"""Finds out which integers the module of a ranker takes, where neither its spec nor its tables say so."""

from __future__ import annotations

import dataclasses

import numpy as np

from cleave.builders.cut.proof.cases import SMALL
from cleave.builders.cut.proof.truth import torch_outputs
from cleave.builders.onnx_graph.random_inputs import SAFEST_HIGH, draw_inputs
from cleave.builders.spec import Ranker, Tensor
from cleave.builders.user_code.failure import UserCodeError

LIMITS = (2**31, 10**6, 10**4, 1000, 100, 24, 7)
"""Integers below one of these are tried for an input on whose larger ones the module fails."""
NUM_DRAWS = 4


def accepting(ranker: Ranker, seed: int = 0) -> Ranker:
    """The ranker with bounds for integers of which its module takes small ones only.

    An id that looks up a table behind some arithmetic is out of it if it is large. Which input it is that the module
    fails on, and what it takes, is found by calling it.
    """
    if not any(tensor.is_integer and tensor.high is None for tensor in ranker.inputs) or not _fails(ranker, {}, seed):
        return ranker
    bounds: dict[str, Tensor] = {}
    for tensor in ranker.inputs:
        if tensor.is_integer and tensor.high is None and _fails(ranker, {tensor.name: tensor}, seed):
            narrower = (
                dataclasses.replace(tensor, high=limit) for limit in LIMITS if limit <= np.iinfo(tensor.dtype).max
            )
            found = (each for each in narrower if not _fails(ranker, {tensor.name: each}, seed))
            bounds[tensor.name] = next(found, dataclasses.replace(tensor, high=SAFEST_HIGH))
    return _replaced(ranker, bounds)


def _fails(ranker: Ranker, unusual: dict[str, Tensor], seed: int) -> bool:
    """Whether the module raises on unusual values of some inputs beside plain ones of the others; of all if none."""
    sizes = {axis.name: min(axis.max, max(axis.min, SMALL)) for axis in ranker.axes}
    for place in range(NUM_DRAWS):
        rng = np.random.default_rng([seed, place])
        drawn = draw_inputs(_replaced(ranker, unusual), sizes, 2, rng, unusual=True)
        plain = draw_inputs(ranker, sizes, 2, rng)
        try:
            torch_outputs(ranker, {**plain, **{name: drawn[name] for name in unusual or drawn}})
        except UserCodeError:
            return True
    return False


def _replaced(ranker: Ranker, tensors: dict[str, Tensor]) -> Ranker:
    def chosen(given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensors.get(tensor.name, tensor) for tensor in given)

    return dataclasses.replace(
        ranker, user=chosen(ranker.user), request=chosen(ranker.request), candidate=chosen(ranker.candidate)
    )
