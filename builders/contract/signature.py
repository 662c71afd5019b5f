"""What a served model publishes beyond Triton's types and dims, for clients and servers: axes, roles and padding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cleave.builders.contract.records import record_from_json
from cleave.builders.names import OUTPUT, RIGHT, PaddingSide, Role


@dataclass(frozen=True)
class ServedAxis:
    """The sizes that are served of an axis, as `cleave.builders.Axis` has them, and those that requests are padded to.

    Raises:
        ValueError: the buckets do not rise to `max`.
    """

    min: int
    opt: int
    max: int
    buckets: tuple[int, ...]
    padding_side: PaddingSide = RIGHT
    min_real: int = 0

    def __post_init__(self) -> None:
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)) or self.buckets[-1] != self.max:
            raise ValueError(f"expected buckets that rise to max={self.max}, got {list(self.buckets)}")

    def bucket(self, size: int) -> int:
        """The smallest bucket that holds `size`, which is at most `max`."""
        return next(bucket for bucket in self.buckets if bucket >= size)


def _unusual(axis: ServedAxis) -> dict[str, str | int]:
    """What few axes have, and is not written for others."""
    side = {} if axis.padding_side == RIGHT else {"padding_side": axis.padding_side}
    return {**side, **({"min_real": axis.min_real} if axis.min_real else {})}


@dataclass(frozen=True)
class ServedTensor:
    """An input or output of a served model."""

    axes: tuple[str | int, ...]
    """The shape of one user, without the batch axis: the name of an axis, or in a summary an expression of such, where
    the size varies, and a number where it is fixed."""
    role: Role | Literal["user_id"] = OUTPUT
    """The input that names the user has its name for a role."""
    pad: int | float = 0
    """What an input is padded with."""


@dataclass(frozen=True)
class Signature:
    """What the parameter `cleave_signature` of a model's config says."""

    axes: Mapping[str, ServedAxis]
    """Those of the ranker's tensors that the model has, by name; axes of summaries alone are not among them."""
    inputs: Mapping[str, ServedTensor]
    outputs: Mapping[str, ServedTensor]
    summary_cache: str | None = None
    """The model that keeps the summaries which this one uses; None where users cannot be named by id."""

    def to_json(self) -> str:
        """The text of the parameter."""
        written = {
            "axes": {
                name: {"min": axis.min, "opt": axis.opt, "max": axis.max, "buckets": axis.buckets, **_unusual(axis)}
                for name, axis in self.axes.items()
            },
            "inputs": {
                name: {"role": tensor.role, "axes": tensor.axes, "pad": tensor.pad}
                for name, tensor in self.inputs.items()
            },
            "outputs": {name: {"axes": tensor.axes} for name, tensor in self.outputs.items()},
        }
        return json.dumps(written if self.summary_cache is None else {**written, "summary_cache": self.summary_cache})

    @staticmethod
    def from_json(text: str) -> Signature:
        """The signature in the text of the parameter; what a later version adds is not read.

        Raises:
            RecordError: it is no signature; says what is wrong where in it.
        """
        return record_from_json(Signature, text)
