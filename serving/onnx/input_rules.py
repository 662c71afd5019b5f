"""Checks the tensors of one request against the signature its model publishes, so that an error names a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cleave.builders.names import BATCH, SUMMARY
from cleave.serving.arrays import Array, Arrays
from cleave.serving.errors import InputError
from cleave.serving.model_config import Config, signature_from_config


@dataclass(frozen=True)
class InputRules:
    """What a request must keep to beyond Triton's types and dims; empty where a model publishes no signature."""

    axes: Mapping[str, tuple[str | int, ...]]
    """For each input, its axes behind the batch: a name where the size varies, a number where it is fixed."""
    bounds: Mapping[str, tuple[int, int]]
    """Smallest and largest size of an axis by name."""
    finite: frozenset[str]
    """Inputs that may hold neither NaN nor infinity."""

    @staticmethod
    def from_config(config: Config) -> InputRules:
        """The rules of a model. Raises: ModelError."""
        signature = signature_from_config(config)
        # Triton has no tensors without dimensions: one value a user is [batch, 1], unless the config reshapes it.
        columns = {entry["name"] for entry in config.get("input", ()) if "reshape" not in entry}
        return InputRules(
            axes={name: tensor.axes or (1,) * (name in columns) for name, tensor in signature.inputs.items()},
            bounds={name: (axis.min, axis.max) for name, axis in signature.axes.items()},
            # What the history encoder wrote is finite by construction, and megabytes to look through.
            finite=frozenset(name for name, tensor in signature.inputs.items() if tensor.role != SUMMARY),
        )

    def check(self, inputs: Arrays) -> None:
        """Check one request.

        Raises:
            InputError: an axis is too short or too long, two inputs differ in the size of an axis they share, or a
                float is not finite.
        """
        seen: dict[str, tuple[int, str]] = {}
        for name, axes in self.axes.items():
            if name in inputs:
                self._check_shape(name, axes, inputs[name].shape, seen)
                if name in self.finite:
                    _check_finite(name, inputs[name])

    def _check_shape(
        self, name: str, axes: tuple[str | int, ...], shape: tuple[int, ...], seen: dict[str, tuple[int, str]]
    ) -> None:
        if len(shape) != len(axes) + 1:
            wanted = ", ".join(map(str, (BATCH, *axes)))
            raise InputError(f"input {name!r}: expected shape [{wanted}], got {list(shape)}; send one row per user")
        for axis, size in zip(axes, shape[1:], strict=True):
            if isinstance(axis, int):
                continue  # Triton compares fixed sizes with the config
            least, most = self.bounds.get(axis, (0, size))
            if not least <= size <= most:
                remedy = f"send at least {least}" if size < least else f"send at most {most} in one request"
                raise InputError(f"input {name!r}: axis {axis!r}: expected {least} to {most}, got {size}; {remedy}")
            other_size, other = seen.setdefault(axis, (size, name))
            if size != other_size:
                raise InputError(
                    f"input {name!r}: axis {axis!r}: expected {other_size} as input {other!r} has, got {size}; "
                    "send tensors of one size"
                )


def _check_finite(name: str, array: Array) -> None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    place = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
    raise InputError(f"input {name!r}: expected finite numbers, got {array[place]} at {list(place)}; send a number")
