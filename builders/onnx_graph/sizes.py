"""Sizes of tensors as polynomials of the axes: `batch * history`, `history + candidates`, `4`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cleave.builders.names import BATCH
from cleave.builders.spec import Axis, Tensor

Monomial = tuple[str, ...]
"""Names of the axes of a product, sorted; () is the constant term."""


@dataclass(frozen=True)
class Size:
    """A whole number that depends on the axes: the sum of `factor` times a product of axes, for each term."""

    terms: tuple[tuple[Monomial, int], ...]

    @staticmethod
    def of(value: int | str) -> Size:
        """A constant, or the size of one axis by name."""
        if isinstance(value, str):
            return Size((((value,), 1),))
        return Size(() if value == 0 else (((), value),))

    @staticmethod
    def parse(symbol: int | str) -> Size:
        """The size that `symbol` writes."""
        total = Size.of(0)
        for part in str(symbol).split(" + "):
            total += product([Size.of(int(factor) if factor.isdecimal() else factor) for factor in part.split("*")])
        return total

    @staticmethod
    def from_terms(terms: Mapping[Monomial, int]) -> Size:
        """The sum of each product of axes times its factor."""
        return Size(tuple(sorted((monomial, factor) for monomial, factor in terms.items() if factor)))

    def __add__(self, other: Size) -> Size:
        terms = dict(self.terms)
        for monomial, factor in other.terms:
            terms[monomial] = terms.get(monomial, 0) + factor
        return Size.from_terms(terms)

    def __mul__(self, other: Size) -> Size:
        terms: dict[Monomial, int] = {}
        for (left, a), (right, b) in itertools.product(self.terms, other.terms):
            monomial = tuple(sorted(left + right))
            terms[monomial] = terms.get(monomial, 0) + a * b
        return Size.from_terms(terms)

    def at(self, sizes: Mapping[str, int]) -> int:
        """The value with the size of every axis given by name."""
        return sum(factor * math.prod(sizes[axis] for axis in monomial) for monomial, factor in self.terms)

    @property
    def axes(self) -> frozenset[str]:
        return frozenset(axis for monomial, _ in self.terms for axis in monomial)

    @property
    def constant(self) -> int | None:
        """The value if it depends on no axis, else None."""
        return None if self.axes else sum(factor for _, factor in self.terms)

    @property
    def axis(self) -> str | None:
        """The name of the axis if the value is just its size, else None."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            return self.terms[0][0][0]
        return None

    @property
    def linear(self) -> tuple[str, int, int] | None:
        """The axis, factor and constant term if the value is `factor * axis + constant`, else None."""
        constant = sum(factor for monomial, factor in self.terms if not monomial)
        varying = [(monomial, factor) for monomial, factor in self.terms if monomial]
        if len(varying) != 1 or len(varying[0][0]) != 1:
            return None
        ((axis,), factor) = varying[0]
        return axis, factor, constant

    @property
    def symbol(self) -> int | str:
        """As ONNX and configs write a dimension: a number, or words."""
        constant = self.constant
        return str(self) if constant is None else constant

    def __str__(self) -> str:
        parts = ["*".join([str(f)] * (f != 1 or not axes) + list(axes)) for axes, f in self.terms]
        return " + ".join(parts) or "0"


def product(sizes: Sequence[Size]) -> Size:
    """The product of sizes; 1 of none."""
    total = Size.of(1)
    for size in sizes:
        total = total * size
    return total


def tensor_dims(tensor: Tensor) -> tuple[Size, ...]:
    """The shape of a tensor of the spec with its batch axis."""
    return Size.of(BATCH), *(Size.of(axis.name if isinstance(axis, Axis) else axis) for axis in tensor.axes)
