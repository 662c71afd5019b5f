"""Random inputs of a ranker: to export it, to find the sizes of its tensors, and to prove its cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleave.builders.names import BATCH, RIGHT, PaddingSide
from cleave.builders.onnx_graph.unusual_values import KINDS, draw_unusual
from cleave.builders.spec import Axis, Ranker, Tensor

AnyArray = NDArray[Any]
Arrays = dict[str, AnyArray]

SAFEST_HIGH = 2
"""Where neither the spec nor the graph says how many rows a table has, ids are 0 and 1, which any table has."""


def draw_inputs(
    ranker: Ranker,
    sizes: Mapping[str, int],
    batch: int,
    rng: np.random.Generator,
    *,
    padded: bool = False,
    unusual: bool = False,
) -> Arrays:
    """One random array `[batch, ...]` for every input.

    Args:
        sizes: the size of every axis by name.
        padded: give every user a random number of real rows, from the fewest of an axis to all of it; the rest is
            padding.
        unusual: as in `unusual_values`, instead of small ones.
    """
    kind = int(rng.integers(len(KINDS))) if unusual else None
    lengths = {
        axis.name: rng.integers(min(axis.min_real, sizes[axis.name]), sizes[axis.name] + 1, batch)
        for axis in ranker.axes
    }
    arrays = {}
    for tensor in ranker.inputs:
        shape = (batch, *tensor.shape(sizes))
        drawn = _draw(tensor, shape, rng) if kind is None else draw_unusual(tensor, shape, kind, rng)
        array = _without_padding(tensor, drawn)
        if padded:
            for place, axis in enumerate(tensor.axes):
                if isinstance(axis, Axis):
                    array = with_padding(array, place + 1, lengths[axis.name], tensor.pad, axis.padding_side)
        arrays[tensor.name] = array
    return arrays


def _draw(tensor: Tensor, shape: tuple[int, ...], rng: np.random.Generator) -> AnyArray:
    low, high = tensor.low or 0, tensor.high
    if tensor.dtype == "bool":
        drawn: AnyArray = rng.integers(0, 2, shape)
    elif tensor.is_integer:
        drawn = rng.integers(int(low), SAFEST_HIGH if high is None else int(high), shape)
    else:
        drawn = rng.standard_normal(shape) if high is None else rng.uniform(low, high, shape)
    return drawn.astype(tensor.numpy_dtype)


def _without_padding(tensor: Tensor, values: AnyArray) -> AnyArray:
    """Other integers for those that look like padding, where an axis has to have real rows: to a mask they are none."""
    if not tensor.is_integer or not any(isinstance(axis, Axis) and axis.min_real for axis in tensor.axes):
        return values
    low, high = int(tensor.low or 0), int(tensor.high or SAFEST_HIGH)
    other = low + (int(tensor.pad) + 1 - low) % (high - low)
    return np.where(values == tensor.pad, np.array(other, values.dtype), values)


def with_padding(
    array: AnyArray, axis: int, lengths: NDArray[np.int64], pad: float, side: PaddingSide = RIGHT
) -> AnyArray:
    """`array` `[batch, ...]` with `pad` along `axis` on one side of as many rows as each user's length says."""
    count = array.shape[axis]
    real = np.arange(count) < lengths[:, None] if side == RIGHT else np.arange(count) >= count - lengths[:, None]
    shape = [1] * array.ndim
    shape[0], shape[axis] = real.shape
    return np.where(real.reshape(shape), array, np.array(pad, array.dtype))


def repeated_for_candidates(ranker: Ranker, inputs: Arrays) -> Arrays:
    """The per-candidate form of one user's inputs: a row per candidate, the user and request repeated for each."""
    num_candidates = inputs[ranker.candidate[0].name].shape[1]
    single = {
        tensor.name: np.repeat(inputs[tensor.name], num_candidates, axis=0) for tensor in ranker.user + ranker.request
    }
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
