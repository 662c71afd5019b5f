"""Random inputs of a ranker: for export, for probing shapes and for proving parity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleave.builders.names import BATCH
from cleave.builders.spec import Axis, Ranker, Tensor

AnyArray = NDArray[Any]
Arrays = dict[str, AnyArray]

SAFEST_HIGH = 2
"""Ids 0 and 1 are within any table, where neither the spec nor the graph says more."""


def draw_inputs(
    ranker: Ranker,
    sizes: Mapping[str, int],
    batch: int,
    rng: np.random.Generator,
    *,
    padded: bool = False,
) -> Arrays:
    """One random array `[batch, ...]` for every input.

    Args:
        sizes: the size of every axis by name.
        padded: end every user's rows with padding of a random length, from none of an axis to all of it.
    """
    lengths = {axis.name: rng.integers(0, sizes[axis.name] + 1, batch) for axis in ranker.axes}
    arrays = {}
    for tensor in ranker.inputs:
        array = _draw(tensor, (batch, *tensor.shape(sizes)), rng)
        if padded:
            for place, axis in enumerate(tensor.axes):
                if isinstance(axis, Axis):
                    array = pad_tail(array, place + 1, lengths[axis.name], tensor.pad)
        arrays[tensor.name] = array
    return arrays


def _draw(tensor: Tensor, shape: tuple[int, ...], rng: np.random.Generator) -> AnyArray:
    if tensor.dtype == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if tensor.dtype.startswith("float"):
        return rng.standard_normal(shape).astype(tensor.numpy_dtype)
    return rng.integers(0, tensor.high or SAFEST_HIGH, shape).astype(tensor.numpy_dtype)


def pad_tail(array: AnyArray, axis: int, lengths: NDArray[np.int64], pad: float) -> AnyArray:
    """`array` with `pad` along `axis` from each row's length on."""
    beyond = np.arange(array.shape[axis]) >= lengths[:, None]
    shape = [1] * array.ndim
    shape[0], shape[axis] = beyond.shape
    return np.where(beyond.reshape(shape), np.array(pad, array.dtype), array)


def repeated_for_candidates(ranker: Ranker, inputs: Arrays) -> Arrays:
    """The per-candidate form of one user's inputs: a row per candidate, the user and request repeated for each."""
    num_candidates = inputs[ranker.candidate[0].name].shape[1]
    single = {tensor.name: np.repeat(inputs[tensor.name], num_candidates, axis=0) for tensor in ranker.inputs}
    for tensor in ranker.candidate:
        single[tensor.name] = np.swapaxes(inputs[tensor.name], 0, 1)
    return single


def batch_and_sizes(ranker: Ranker, inputs: Mapping[str, AnyArray]) -> dict[str, int]:
    """The size of the batch and of every axis of these inputs, by name."""
    sizes = {}
    for tensor in ranker.inputs:
        shape = inputs[tensor.name].shape
        sizes[BATCH] = shape[0]
        sizes.update({axis.name: shape[i + 1] for i, axis in enumerate(tensor.axes) if isinstance(axis, Axis)})
    return sizes
