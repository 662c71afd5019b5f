"""What a ranker takes and gives: the one object from which every name, type, axis and limit is derived."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cleave.builders.contract.dtypes import RANKER_DTYPES
from cleave.builders.errors import SpecError
from cleave.builders.names import BATCH, PADDING_SIDES, RIGHT, SUMMARY_STATUS, USER_ID, PaddingSide, Role, ranker_of

if TYPE_CHECKING:
    import torch

SMALLEST_BUCKET = 16
"""Shapes below this many elements cost about the same to run, so they share one bucket."""


def _check_name(where: str, name: object) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise SpecError(
            f"{where}.name: expected an identifier, got {name!r}; use letters, digits and underscores, no leading digit"
        )


def _check_count(where: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SpecError(f"{where}: expected a whole number of at least {least}, got {value!r}; correct the number")


@dataclass(frozen=True)
class Axis:
    """A dimension whose size varies from request to request.

    `min`, `opt` and `max` bound the sizes that are served, as an optimization profile does; `opt` is the size to be
    fast at. Padding to `buckets` is what lets requests of different sizes share a batch.

    Args:
        padding_side: where padding stands, as in `torch.nn.utils.rnn.pad_sequence`: "right" is behind the rows of a
            user, "left" is in front of them, for modules that read the last rows of an axis.
        min_real: the fewest rows that are not padding. 0 allows an empty history; clients refuse to send fewer.
    """

    name: str
    min: int
    opt: int
    max: int
    padding_side: PaddingSide = RIGHT
    min_real: int = 0

    def __post_init__(self) -> None:
        _check_name("Axis", self.name)
        where = f"Axis {self.name!r}"
        if self.name == BATCH:
            raise SpecError(f"{where}.name: {BATCH!r} is the axis that is never written; choose another name")
        for bound in ("min", "opt", "max"):
            _check_count(f"{where}.{bound}", getattr(self, bound), 1)
        if self.min > self.max:
            raise SpecError(f"{where}.min: expected at most max={self.max}, got {self.min}; swap min and max")
        if not self.min <= self.opt <= self.max:
            raise SpecError(
                f"{where}.opt: expected between min={self.min} and max={self.max}, got {self.opt}; move it inside"
            )
        if self.padding_side not in PADDING_SIDES:
            raise SpecError(
                f"{where}.padding_side: expected one of {', '.join(PADDING_SIDES)}, got {self.padding_side!r}; choose "
                "the side on which the module expects padding"
            )
        _check_count(f"{where}.min_real", self.min_real, 0)
        if self.min_real > self.max:
            raise SpecError(f"{where}.min_real: expected at most max={self.max}, got {self.min_real}; lower it")

    @property
    def buckets(self) -> tuple[int, ...]:
        """Sizes that requests are padded to: powers of two, then `max`; at most half of a bucket is padding."""
        sizes = {self.max}
        size = SMALLEST_BUCKET
        while size < self.max:
            if size >= self.min:
                sizes.add(size)
            size *= 2
        return tuple(sorted(sizes))

    def bucket(self, size: int) -> int:
        """The smallest bucket that holds `size`, which is at most `max`."""
        return next(bucket for bucket in self.buckets if bucket >= size)


@dataclass(frozen=True)
class Tensor:
    """One input or output. `axes` is the shape of one user: the batch axis is always first and never written.

    Args:
        name: the same in torch, ONNX, engine, config, client and benchmark.
        dtype: one of `contract.dtypes.RANKER_DTYPES`.
        axes: `Axis` where the size varies, a number where it is fixed; `()` is one value a user.
        pad: the value that fills a bucket; the model must give it no effect (a mask, or a row nobody reads).
        low, high: what values requests hold, for wherever the builder needs some. Integers run from `low`, which is 0
            by default, to `high - 1`; without `high` that is read off the embedding tables that they look up, and what
            looks up none is tried with integers of all sizes. Floats run from `low` to `high`, and without them are of
            any size. No request is checked against these.
    """

    name: str
    dtype: str
    axes: tuple[Axis | int, ...]
    pad: int | float = 0
    low: int | float | None = None
    high: int | float | None = None

    def __post_init__(self) -> None:
        _check_name("Tensor", self.name)
        where = f"Tensor {self.name!r}"
        if self.dtype not in RANKER_DTYPES:
            raise SpecError(
                f"{where}.dtype: expected one of {', '.join(RANKER_DTYPES)}, got {self.dtype!r}; choose one of them"
            )
        if not isinstance(self.axes, tuple):
            raise SpecError(f"{where}.axes: expected a tuple, got {self.axes!r}; write (history,) with the comma")
        for place, axis in enumerate(self.axes):
            if not isinstance(axis, Axis):
                _check_count(f"{where}.axes[{place}]", axis, 1)
        self._check_bounds(where)
        if isinstance(self.pad, bool) or not isinstance(self.pad, int | float) or not math.isfinite(self.pad):
            raise SpecError(f"{where}.pad: expected a finite number, got {self.pad!r}; choose one the model ignores")
        if not self.dtype.startswith("float") and self.pad != np.array(self.pad).astype(self.dtype):
            raise SpecError(f"{where}.pad: expected a value of {self.dtype}, got {self.pad!r}; choose one")

    def _check_bounds(self, where: str) -> None:
        """`low` and `high` are values of the type with something between them."""
        if self.low is None and self.high is None:
            return
        if self.dtype == "bool":
            raise SpecError(f"{where}: expected no low and no high of dtype bool, got one; leave it out")
        if self.high is None or (self.low is None and not self.is_integer):
            raise SpecError(f"{where}: expected low and high, got one alone; write both")
        for bound in ("low", "high"):
            value = getattr(self, bound)
            if value is not None and not self._is_number(value):
                kind = "whole" if self.is_integer else "finite"
                raise SpecError(f"{where}.{bound}: expected a {kind} number, got {value!r}; correct it")
        low, high = self.low or 0, self.high - self.is_integer
        if not low <= high:
            least = f"at least {low + 1}" if self.is_integer else f"no less than low={low}"
            raise SpecError(f"{where}.high: expected {least}, got {self.high}; raise high or lower low")
        if self.is_integer and not all(
            np.iinfo(self.dtype).min <= end <= np.iinfo(self.dtype).max for end in (low, high)
        ):
            raise SpecError(
                f"{where}: expected low and high - 1 to be values of {self.dtype}, got {low} and {high}; narrow them"
            )

    def _is_number(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return isinstance(value, int) if self.is_integer else math.isfinite(value)

    @property
    def is_integer(self) -> bool:
        """Whether it holds integers."""
        return self.dtype.startswith(("int", "uint"))

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape of one user with `sizes` giving the size of every axis by name."""
        return tuple(sizes[axis.name] if isinstance(axis, Axis) else axis for axis in self.axes)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)


@dataclass(frozen=True)
class Ranker:
    """A ranking model and the roles of its inputs: everything cleave needs to know of a model.

    Args:
        name: names the models of the repository (`NAME_whole`, ...).
        module: `forward` takes every input by its name, each with the batch axis first, and returns the outputs in
            the order of `output`. Row i of every input belongs to user i.
        user: kept across requests; what depends on these alone is the history encoder.
        request: sent with each request; may be empty.
        candidate: one row per candidate: the candidate axis is the first of each.
        output: one row per candidate, too.
        boundary: paths of submodules, as in `module.named_modules()`, whose outputs shall be the summary, where the
            model decides what is kept; by default the cut that costs least.
    """

    name: str
    module: torch.nn.Module = field(compare=False, repr=False)
    user: tuple[Tensor, ...]
    candidate: tuple[Tensor, ...]
    output: tuple[Tensor, ...]
    request: tuple[Tensor, ...] = ()
    boundary: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_name("Ranker", self.name)
        where = f"Ranker {self.name!r}"
        if (other := ranker_of(self.name)) != self.name:
            raise SpecError(
                f"{where}.name: expected a name of its own, got that of a model that a ranker {other!r} becomes; "
                f"choose one that does not end in {self.name.removeprefix(other)!r}"
            )
        for role in ("user", "request", "candidate", "output"):
            tensors = getattr(self, role)
            if not isinstance(tensors, tuple) or not all(isinstance(tensor, Tensor) for tensor in tensors):
                raise SpecError(f"{where}.{role}: expected a tuple of Tensor, got {tensors!r}; write ({role}_tensor,)")
            if not tensors and role != "request":
                raise SpecError(f"{where}.{role}: expected at least one Tensor, got none; name the {role} tensors")
        self._check_module(where)
        self._check_names(where)
        self._check_axes(where)
        self._check_boundary(where)

    def _check_module(self, where: str) -> None:
        import torch  # noqa: PLC0415 - slow, and whoever has a module has it already

        if not isinstance(self.module, torch.nn.Module):
            raise SpecError(f"{where}.module: expected a torch.nn.Module, got {self.module!r}; give an instance of it")

    def _check_boundary(self, where: str) -> None:
        if not isinstance(self.boundary, tuple):
            raise SpecError(f"{where}.boundary: expected a tuple, got {self.boundary!r}; write (name,) with the comma")
        modules = [name for name, _ in self.module.named_modules() if name]
        for path in self.boundary:
            if path not in modules:
                raise SpecError(
                    f"{where}.boundary: no submodule {path!r}; its submodules are {', '.join(modules) or 'none'}; name "
                    "one of them"
                )

    def _check_names(self, where: str) -> None:
        seen: dict[str, Role] = {}
        for role, tensor in self.tensors():
            if tensor.name in (USER_ID, SUMMARY_STATUS):
                raise SpecError(
                    f"{where}.{role}: {tensor.name!r} is a name that served models use themselves; rename the tensor"
                )
            if tensor.name in seen:
                raise SpecError(
                    f"{where}.{role}: two tensors of the name {tensor.name!r} (the other is in {seen[tensor.name]}); "
                    "rename one"
                )
            seen[tensor.name] = role

    def _check_axes(self, where: str) -> None:
        axes: dict[str, tuple[Axis, Role]] = {}
        for role, tensor in self.tensors():
            axis_role: Role = "candidate" if role == "output" else role
            for axis in tensor.axes:
                if not isinstance(axis, Axis):
                    continue
                known, known_role = axes.setdefault(axis.name, (axis, axis_role))
                if known != axis:
                    raise SpecError(
                        f"{where}.{role}: tensor {tensor.name!r} has another axis {axis.name!r} "
                        f"({axis} against {known}); use one Axis object for both"
                    )
                if known_role != axis_role:
                    raise SpecError(
                        f"{where}.{role}: tensor {tensor.name!r} shares axis {axis.name!r} with a {known_role} tensor, "
                        f"expected an axis of its own; sizes of different roles vary apart, so give each its Axis"
                    )
        for role in ("candidate", "output"):
            for tensor in getattr(self, role):
                if not tensor.axes or tensor.axes[0] != self._first_candidate_axis():
                    raise SpecError(
                        f"{where}.{role}: tensor {tensor.name!r} has axes {tensor.axes!r}, expected the candidate axis "
                        "first; put the Axis that counts candidates in front"
                    )
        self._check_candidate_axis(where)

    def _check_candidate_axis(self, where: str) -> None:
        """A list has at least one candidate, and padding behind it, as each is scored whatever stands beside it."""
        axis = self.candidate_axis
        default = Axis(axis.name, axis.min, axis.opt, axis.max)
        for option in ("padding_side", "min_real"):
            got, expected = getattr(axis, option), getattr(default, option)
            if got != expected:
                raise SpecError(
                    f"{where}.candidate: axis {axis.name!r}: {option}: expected {expected!r}, as this axis counts "
                    f"candidates, got {got!r}; leave it out"
                )

    def _first_candidate_axis(self) -> Axis | int | None:
        first = self.candidate[0].axes
        return first[0] if first and isinstance(first[0], Axis) else None

    @property
    def candidate_axis(self) -> Axis:
        """The axis that counts candidates."""
        axis = self._first_candidate_axis()
        assert isinstance(axis, Axis)
        return axis

    @property
    def history_axis(self) -> Axis | None:
        """The axis that counts events: the first of the user's tensors, if they have one."""
        return next(iter(axes_of(iter(self.user))), None)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.user + self.request + self.candidate

    def tensors(self) -> Iterator[tuple[Role, Tensor]]:
        """Every tensor with its role: user, request, candidate, output."""
        for role in ("user", "request", "candidate", "output"):
            for tensor in getattr(self, role):
                yield role, tensor

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Every axis once, in the order of the tensors."""
        return axes_of(tensor for _, tensor in self.tensors())

    @property
    def axis_roles(self) -> dict[str, Role]:
        """The role whose tensors vary along each axis."""
        return {
            axis.name: "candidate" if role == "output" else role
            for role, tensor in self.tensors()
            for axis in tensor.axes
            if isinstance(axis, Axis)
        }

    def sizes(self, which: Literal["min", "opt", "max"], **others: int) -> dict[str, int]:
        """The size of every axis at one bound; `others` overrides single axes by name."""
        sizes: dict[str, int] = {axis.name: getattr(axis, which) for axis in self.axes}
        for name, size in others.items():
            axis = next((axis for axis in self.axes if axis.name == name), None)
            if axis is None:
                raise SpecError(f"Ranker {self.name!r}: no axis {name!r}; its axes are {', '.join(sizes)}")
            if not axis.min <= size <= axis.max:
                raise SpecError(
                    f"Ranker {self.name!r}: axis {name!r}: expected {axis.min} to {axis.max}, got {size}; "
                    "choose a size inside, or widen the Axis"
                )
            sizes[name] = size
        return sizes


def axes_of(tensors: Iterator[Tensor]) -> tuple[Axis, ...]:
    """Every `Axis` of the tensors once, in order."""
    return tuple(dict.fromkeys(axis for tensor in tensors for axis in tensor.axes if isinstance(axis, Axis)))
