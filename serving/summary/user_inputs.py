"""What the summary cache must know of the user inputs: how they are padded, and whether two of them are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cleave.builders.names import USER_ID
from cleave.serving.arrays import Array, Arrays
from cleave.serving.errors import ModelError
from cleave.serving.model_config import Config, dtype_of, named, signature_from_config

DIGEST_BYTES = 32


@dataclass(frozen=True)
class UserInput:
    """One input of the history encoder; `variable` are the places of the axes that are padded, without the batch."""

    dtype: np.dtype[Any]
    variable: tuple[int, ...]
    pad: int | float


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
        published = signature_from_config(config).inputs
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
            variable = tuple(place for place, axis in enumerate(tensor.axes) if isinstance(axis, str))
            tensors[entry["name"]] = UserInput(dtype_of(entry), variable, tensor.pad)
        return UserInputs(tensors)

    def digest(self, inputs: Arrays) -> bytes:
        """Names the user inputs of one user, [axes...] each: the same for the same history, however far padded.

        Padding is what the axes end in, so a history whose last events are all padding is the history without them.
        """
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for name in sorted(self.tensors):
            array = _stripped(inputs[name], self.tensors[name])
            digest.update(repr((name, array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()


def _stripped(array: Array, tensor: UserInput) -> Array:
    """`array` without the padding at the end of its variable axes. Bits are compared: 0.0 does not equal -0.0."""
    if not tensor.variable:
        return array
    bits = np.dtype(f"u{array.dtype.itemsize}")
    pad = np.array(tensor.pad, array.dtype).view(bits)
    real = np.ascontiguousarray(array).view(bits) != pad
    kept = [slice(None)] * array.ndim
    for axis in tensor.variable:
        others = tuple(other for other in range(array.ndim) if other != axis)
        places = np.flatnonzero(real.any(axis=others))
        kept[axis] = slice(int(places[-1]) + 1 if places.size else 0)
    return array[tuple(kept)]
