"""Optimization profiles: the ranges of sizes that an engine is built and tuned for, as functions of the axes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx

from cleave.builders.contract.engine_record import Bounds
from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.sizes import Size
from cleave.builders.spec import Axis

OPT_BATCH = 8
"""Requests that meet in the dynamic batcher when concurrent clients keep a GPU busy; what engines are tuned for."""


@dataclass(frozen=True)
class ProfileRange:
    """The sizes of one axis in one profile, and the one to be fast at."""

    min: int
    opt: int
    max: int

    def __contains__(self, size: int) -> bool:
        return self.min <= size <= self.max

    def __str__(self) -> str:
        return f"{self.min}-{self.max}"


@dataclass(frozen=True)
class Profile:
    """One optimization profile: a range for the batch and each axis by name."""

    ranges: Mapping[str, ProfileRange]

    def shapes(self, dims: Sequence[int | str]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The shapes at min, opt and max of a tensor whose dims are written as in an ONNX graph."""
        sizes = [Size.parse(dim) for dim in dims]
        bounds: tuple[Literal["min", "opt", "max"], ...] = ("min", "opt", "max")
        at_min, at_opt, at_max = (tuple(size.at(self.sizes(bound)) for size in sizes) for bound in bounds)
        return at_min, at_opt, at_max

    def sizes(self, bound: Literal["min", "opt", "max"]) -> dict[str, int]:
        """The size of the batch and each axis at one bound."""
        return {name: getattr(sizes, bound) for name, sizes in self.ranges.items()}

    def bounds(self) -> Bounds:
        """As configs and manifests say it."""
        return {name: (sizes.min, sizes.max) for name, sizes in self.ranges.items()}

    def __str__(self) -> str:
        return ", ".join(f"{name} {sizes}" for name, sizes in self.ranges.items())


def ranges_of(axis: Axis) -> tuple[ProfileRange, ...]:
    """The sizes of an axis in at most two ranges.

    The first ends with the bucket that holds `opt` and is tuned there: what most requests are padded to. All above it
    is the second, tuned at `max`: the longest requests cost the most, and the shorter ones of that range run kernels
    that are made for work of the same kind.
    """
    usual = axis.bucket(axis.opt)
    ranges = [ProfileRange(axis.min, usual, usual)]
    if usual < axis.max:
        ranges.append(ProfileRange(usual + 1, axis.max, axis.max))
    return tuple(ranges)


def profiles_of(model: onnx.ModelProto, axes: Sequence[Axis], max_batch: int) -> tuple[Profile, ...]:
    """A profile for every combination of ranges of the axes that the inputs of a graph have, usual sizes first."""
    read = {
        name for value in model.graph.input for dim in dims_of(value) for name in Size.parse(dim).axes if name != BATCH
    }
    batch = ProfileRange(1, min(OPT_BATCH, max_batch), max_batch)
    of_axes = {axis.name: ranges_of(axis) for axis in axes if axis.name in read}
    return tuple(
        Profile({BATCH: batch, **dict(zip(of_axes, chosen, strict=True))})
        for chosen in itertools.product(*of_axes.values())
    )


def dims_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """The declared shape of an input or output: numbers, and sizes that vary in words."""
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
