"""Users of a proof: drawn as a client has them, padded as a server gets them, and found again in what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cleave.builders.names import LEFT
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays, draw_inputs
from cleave.builders.spec import Axis, Ranker, Tensor

Lengths = Mapping[str, int]
"""The number of rows along every axis by name: real ones of a user, or those that a server gets."""


def draw_user(ranker: Ranker, lengths: Lengths, *seed: int, alike: bool = False) -> Arrays:
    """The inputs of one user, `[1, ...]`, without padding: always the same of the same lengths and seed.

    With `alike`, all rows of an input but the candidates' are its first row, as of somebody who does one thing over and
    over: what depends on the largest value of many rows, which padding seldom is, shows there.
    """
    rng = np.random.default_rng([*seed, *lengths.values()])
    user = draw_inputs(ranker, lengths, 1, rng)
    if alike:
        for tensor in ranker.user + ranker.request:
            for place, axis in enumerate(tensor.axes, start=1):
                if isinstance(axis, Axis):
                    user[tensor.name] = np.take(user[tensor.name], [0] * lengths[axis.name], axis=place)
    return user


def as_module_takes(ranker: Ranker, user: Arrays) -> Arrays:
    """The inputs on which the module is right by definition: without padding, but for what `Axis.min` asks for."""
    return padded(ranker, user, {axis.name: axis.min for axis in ranker.axes})


def padded(ranker: Ranker, user: Arrays, sizes: Lengths) -> Arrays:
    """The inputs of one user with each axis in `sizes` padded on its side to at least that size."""
    return {tensor.name: _padded(tensor, user[tensor.name], sizes) for tensor in ranker.inputs}


def _padded(tensor: Tensor, array: AnyArray, sizes: Lengths) -> AnyArray:
    widths = [(0, 0)]
    for axis, size in zip(tensor.axes, array.shape[1:], strict=True):
        missing = max(0, sizes.get(axis.name, 0) - size) if isinstance(axis, Axis) else 0
        widths.append((missing, 0) if isinstance(axis, Axis) and axis.padding_side == LEFT else (0, missing))
    return np.pad(array, widths, constant_values=tensor.pad)


def joined(users: Sequence[Arrays]) -> Arrays:
    """Users of equal sizes as one batch."""
    return {name: np.concatenate([user[name] for user in users]) for name in users[0]}


def with_candidates(ranker: Ranker, user: Arrays, order: AnyArray | slice) -> Arrays:
    """The inputs of a user with these candidates of its list, in this order."""
    chosen = {tensor.name: user[tensor.name][:, order] for tensor in ranker.candidate}
    return {**user, **chosen}


def shortened(ranker: Ranker, user: Arrays, lengths: Lengths) -> Arrays:
    """The inputs of a user with the rows next to the padding left out, until `lengths` of them remain."""
    return {tensor.name: _shortened(tensor, user[tensor.name], lengths) for tensor in ranker.inputs}


def _shortened(tensor: Tensor, array: AnyArray, lengths: Lengths) -> AnyArray:
    kept = [slice(None)]
    for axis, size in zip(tensor.axes, array.shape[1:], strict=True):
        if isinstance(axis, Axis):
            kept.append(_real(axis, min(size, lengths.get(axis.name, size)), size))
        else:
            kept.append(slice(None))
    return array[tuple(kept)]


def _real(axis: Axis, length: int, size: int) -> slice:
    """Where the real rows stand among `size` of them."""
    return slice(size - length, size) if axis.padding_side == LEFT else slice(length)


def real_rows(ranker: Ranker, outputs: Arrays, row: int, lengths: Lengths) -> Arrays:
    """What belongs to user `row` of a batch, `[1, ...]`, without what was computed for padding."""
    return {tensor.name: _real_rows(tensor, outputs[tensor.name], row, lengths) for tensor in ranker.output}


def _real_rows(tensor: Tensor, array: AnyArray, row: int, lengths: Lengths) -> AnyArray:
    kept = [slice(row, row + 1)]
    for axis, size in zip(tensor.axes, array.shape[1:], strict=False):
        kept.append(_real(axis, lengths[axis.name], size) if isinstance(axis, Axis) else slice(None))
    return array[tuple(kept)]


def least_rows(ranker: Ranker, axis: Axis) -> int:
    """The fewest rows that a client sends: at least one candidate, and of others as the axis says."""
    return 1 if axis == ranker.candidate_axis else axis.min_real


def sizes_in_words(lengths: Lengths) -> str:
    """`history 17, candidates 5`."""
    return ", ".join(f"{axis} {length}" for axis, length in lengths.items())


def lengths_of(ranker: Ranker, user: Arrays) -> dict[str, int]:
    """The rows of these inputs along every axis by name."""
    return {
        axis.name: user[tensor.name].shape[place]
        for tensor in ranker.inputs
        for place, axis in enumerate(tensor.axes, start=1)
        if isinstance(axis, Axis)
    }


def bucket_sizes(ranker: Ranker, users: Sequence[Lengths]) -> dict[str, int]:
    """The sizes that a client pads these users to, where they share a batch."""
    return {axis.name: axis.bucket(max(user[axis.name] for user in users)) for axis in ranker.axes}
