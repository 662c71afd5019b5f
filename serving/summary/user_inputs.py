"""What the summary cache must know of an encoder: how histories are padded, and the shape of what is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import triton_to_np_dtype

from cleave.builders.names import SUMMARY_STATUS, USER_ID
from cleave.serving.errors import ModelError
from cleave.serving.model_config import Config, named, signature_from_config

Array = NDArray[Any]
Arrays = Mapping[str, Array]

DIGEST_BYTES = 32
VARIABLE = -1


@dataclass(frozen=True)
class UserInput:
    """One input of the history encoder; `variable` are the places of the axes that are padded, without the batch."""

    dtype: np.dtype[Any]
    variable: tuple[int, ...]
    pad: int | float


@dataclass(frozen=True)
class SummaryTensor:
    """One tensor of a summary; `dims` is the shape of one user, -1 where the size varies."""

    dtype: np.dtype[Any]
    dims: tuple[int, ...]

    def fits(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        return dtype == self.dtype and len(shape) == len(self.dims) and all(map(_fits, self.dims, shape))


def _fits(dim: int, size: int) -> bool:
    return dim in (VARIABLE, size)


@dataclass(frozen=True)
class Layout:
    """The user inputs and the summary tensors of a ranker by name."""

    user: Mapping[str, UserInput]
    summary: Mapping[str, SummaryTensor]

    @staticmethod
    def from_config(config: Config) -> Layout:
        """The layout in the config of a summary cache as Triton gives it to a backend."""
        published = signature_from_config(config).inputs
        user = {}
        for entry in config["input"]:
            if entry["name"] != USER_ID:
                tensor = published.get(entry["name"])
                if tensor is None:
                    raise ModelError(
                        f"{named(config)}: input {entry['name']!r}: expected it in the signature, got "
                        f"{', '.join(published) or 'no input'}; build it again"
                    )
                variable = tuple(place for place, axis in enumerate(tensor.axes) if isinstance(axis, str))
                user[entry["name"]] = UserInput(_dtype(entry), variable, tensor.pad)
        summary = {
            entry["name"]: SummaryTensor(_dtype(entry), tuple(map(int, entry["dims"])))
            for entry in config["output"]
            if entry["name"] != SUMMARY_STATUS
        }
        return Layout(user, summary)

    def digest(self, inputs: Arrays) -> bytes:
        """Names the user inputs of one user, [axes...] each: the same for the same history, however far padded.

        Padding is what the axes end in, so a history whose last events are all padding is the history without them.
        """
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for name in sorted(self.user):
            array = _stripped(inputs[name], self.user[name])
            digest.update(repr((name, array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()

    def fits(self, tensors: Arrays) -> bool:
        """Whether these are the summary of one user."""
        return tensors.keys() == self.summary.keys() and all(
            self.summary[name].fits(tensor.dtype, tensor.shape) for name, tensor in tensors.items()
        )


def _dtype(entry: Mapping[str, Any]) -> np.dtype[Any]:
    return np.dtype(triton_to_np_dtype(entry["data_type"].removeprefix("TYPE_")))


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
