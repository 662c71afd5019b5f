"""What the summary cache must know of the user inputs: how they are padded, and whether two of them are the same."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cleave.builders.contract.signature import ServedAxis, ServedTensor
from cleave.builders.names import LEFT, RIGHT, USER_ID, PaddingSide
from cleave.serving.arrays import Array, Arrays
from cleave.serving.errors import InputError, ModelError
from cleave.serving.model_config import Config, dtype_of, named, signature_from_config

DIGEST_BYTES = 32


@dataclass(frozen=True)
class PaddedAxis:
    """An axis of a user input whose size varies."""

    place: int
    """Without the batch axis."""
    name: str
    side: PaddingSide = RIGHT
    min_real: int = 0
    """The fewest rows that are not padding."""


@dataclass(frozen=True)
class UserInput:
    """One input of the history encoder."""

    dtype: np.dtype[Any]
    padded: tuple[PaddedAxis, ...]
    pad: int | float
    num_axes: int = 1
    """Without the batch axis; as one value a user is [batch, 1], there is at least one."""


@dataclass(frozen=True)
class UserInputs:
    """The user inputs of a ranker by name."""

    tensors: Mapping[str, UserInput]

    @property
    def names(self) -> list[str]:
        return list(self.tensors)

    @staticmethod
    def from_config(config: Config) -> UserInputs:
        """The user inputs in the config of a summary cache.

        Raises:
            ModelError: its signature cannot be read, or misses one of them.
        """
        signature = signature_from_config(config)
        published = signature.inputs
        tensors = {}
        for entry in config["input"]:
            if entry["name"] == USER_ID:
                continue
            tensor = published.get(entry["name"])
            if tensor is None:
                raise ModelError(
                    f"{named(config)}: input {entry['name']!r}: expected it in the signature, got "
                    f"{', '.join(published) or 'no input'}; build it again"
                )
            tensors[entry["name"]] = UserInput(
                dtype_of(entry), _padded_axes(tensor, signature.axes), tensor.pad, len(entry["dims"])
            )
        return UserInputs(tensors)

    def check_axes(self, inputs: Arrays, num_users: int) -> None:
        """Refuse tensors [batch, axes...] of other axes: Triton lets any through where sizes may differ by request.

        Raises:
            InputError: names the tensor.
        """
        for name, tensor in self.tensors.items():
            shape = inputs[name].shape
            if len(shape) != 1 + tensor.num_axes or shape[0] != num_users:
                raise InputError(
                    f"input {name!r}: expected {num_users} users with {tensor.num_axes} axes each, got shape "
                    f"{list(shape)}; send one row per user"
                )

    def digest(self, inputs: Arrays) -> bytes:
        """Names the user inputs of one user, [axes...] each: the same for the same history, however far padded.

        Padding is what the axes end in, or begin with where it stands on the left, so a history whose last events are
        all padding is the history without them.
        """
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for name in sorted(self.tensors):
            array = _stripped(inputs[name], self.tensors[name])
            digest.update(repr((name, array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()

    def check_real_rows(self, inputs: Arrays) -> None:
        """Refuse a user, [axes...] each, who has fewer rows than the model has scores for.

        Raises:
            InputError: names the axis.
        """
        least = {axis.name: axis.min_real for tensor in self.tensors.values() for axis in tensor.padded}
        if not any(least.values()):
            return
        most: Counter[str] = Counter()
        for name, tensor in self.tensors.items():
            stripped = _stripped(inputs[name], tensor)
            for axis in tensor.padded:
                most[axis.name] = max(most[axis.name], stripped.shape[axis.place])
        for name, count in least.items():
            if most[name] < count:
                raise InputError(
                    f"axis {name!r}: expected {count} or more rows that are not padding, got {most[name]}, for which "
                    "the model has no scores; rank such a user in another way"
                )


def _padded_axes(tensor: ServedTensor, axes: Mapping[str, ServedAxis]) -> tuple[PaddedAxis, ...]:
    return tuple(
        PaddedAxis(place, axis, axes[axis].padding_side, axes[axis].min_real)
        for place, axis in enumerate(tensor.axes)
        if isinstance(axis, str)
    )


def _stripped(array: Array, tensor: UserInput) -> Array:
    """`array` without the padding of its axes. Bits are compared: 0.0 does not equal -0.0."""
    if not tensor.padded:
        return array
    bits = np.dtype(f"u{array.dtype.itemsize}")
    pad = np.array(tensor.pad, array.dtype).view(bits)
    real = np.ascontiguousarray(array).view(bits) != pad
    kept = [slice(None)] * array.ndim
    for axis in tensor.padded:
        others = tuple(other for other in range(array.ndim) if other != axis.place)
        rows = np.flatnonzero(real.any(axis=others))
        if axis.side == LEFT:
            kept[axis.place] = slice(int(rows[0]) if rows.size else array.shape[axis.place], None)
        else:
            kept[axis.place] = slice(int(rows[-1]) + 1 if rows.size else 0)
    return array[tuple(kept)]
