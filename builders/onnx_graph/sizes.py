"""Sizes of tensors as polynomials of the axes, found by running a graph at many sizes.

Running it is what works for any operator: shape inference gives up at the first op or shape arithmetic it does not
know. A size is a sum of products of distinct axes (`batch * history`, `history + candidates`, `4`); as many runs as
there are such products determine the factors, and each further run confirms them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.random_inputs import batch_and_sizes, draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.spec import Axis, Ranker, Tensor

CONFIRMING_RUNS = 2
LONGEST = 512
"""Axes are probed up to their `opt` but no further than this: every tensor of the graph is held at once."""
LARGEST_SHAPE_VECTOR = 16
"""Integer tensors of more elements are data, not shapes."""

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
    def _from_dict(terms: Mapping[Monomial, int]) -> Size:
        return Size(tuple(sorted((monomial, factor) for monomial, factor in terms.items() if factor)))

    def __add__(self, other: Size) -> Size:
        terms = dict(self.terms)
        for monomial, factor in other.terms:
            terms[monomial] = terms.get(monomial, 0) + factor
        return Size._from_dict(terms)

    def __mul__(self, other: Size) -> Size:
        terms: dict[Monomial, int] = {}
        for (left, a), (right, b) in itertools.product(self.terms, other.terms):
            monomial = tuple(sorted(left + right))
            terms[monomial] = terms.get(monomial, 0) + a * b
        return Size._from_dict(terms)

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


@dataclass(frozen=True)
class Probe:
    """What running a graph at many sizes tells of its tensors."""

    dims: dict[str, tuple[Size | None, ...]]
    """The shape of every tensor; None where a size is no polynomial of the axes."""
    values: dict[str, tuple[Size, ...]]
    """The elements of every small integer tensor of rank 0 or 1 that are functions of the axes."""
    dtypes: dict[str, np.dtype[Any]]

    def shape(self, tensor: str) -> tuple[Size, ...] | None:
        """The shape of a tensor if all of it is known."""
        dims = self.dims.get(tensor)
        return None if dims is None or None in dims else tuple(size for size in dims if size is not None)


def probe(model: onnx.ModelProto, ranker: Ranker) -> Probe:
    """Run `model`, whose inputs are those of `ranker`, at small sizes and fit every size and shape vector."""
    runner = _runner_of_all_tensors(model)
    rng = np.random.default_rng(0)
    runs: list[list[object]] = []
    points: list[dict[str, int]] = []
    for sizes in _probe_sizes(ranker):
        inputs = draw_inputs(ranker, sizes, sizes[BATCH], rng)
        points.append(batch_and_sizes(ranker, inputs))
        results = runner(inputs)
        runs.append([results[name] for name in runner.outputs])
    fit = _Fit(points)
    dims: dict[str, tuple[Size | None, ...]] = {}
    values: dict[str, tuple[Size, ...]] = {}
    dtypes: dict[str, np.dtype[Any]] = {}
    for name, results_of_all in zip(runner.outputs, zip(*runs, strict=True), strict=True):
        arrays = [result for result in results_of_all if isinstance(result, np.ndarray)]
        if not arrays:
            continue  # a sequence of tensors, which has no shape
        dtypes[name] = arrays[0].dtype
        if len({array.ndim for array in arrays}) == 1:
            dims[name] = tuple(fit(samples) for samples in zip(*(array.shape for array in arrays), strict=True))
        if elements := _elements(arrays, fit):
            values[name] = elements
    for tensor in ranker.inputs:
        dims[tensor.name] = tensor_dims(tensor)
        dtypes[tensor.name] = tensor.numpy_dtype
    for initializer in model.graph.initializer:
        array = onnx.numpy_helper.to_array(initializer)
        dims[initializer.name] = tuple(Size.of(size) for size in array.shape)
        dtypes[initializer.name] = array.dtype
        if array.dtype.kind in "iu" and array.ndim <= 1 and array.size <= LARGEST_SHAPE_VECTOR:
            values[initializer.name] = tuple(Size.of(int(element)) for element in array.reshape(-1))
    return Probe(dims, values, dtypes)


class _Fit:
    """Finds the polynomial through samples taken at `points`: sizes of the batch and of every axis by name."""

    def __init__(self, points: Sequence[Mapping[str, int]]) -> None:
        varying = sorted(axis for axis in points[0] if len({point[axis] for point in points}) > 1)
        self.monomials = [m for count in range(len(varying) + 1) for m in itertools.combinations(varying, count)]
        rows = [[np.prod([point[axis] for axis in monomial]) for monomial in self.monomials] for point in points]
        self.basis = np.array(rows, np.float64)
        self.inverse = np.linalg.pinv(self.basis)
        self.known: dict[tuple[int, ...], Size | None] = {}

    def __call__(self, samples: Sequence[int]) -> Size | None:
        key = tuple(int(sample) for sample in samples)
        if key not in self.known:
            factors = np.rint(self.inverse @ np.array(key, np.float64))
            exact = np.array_equal(self.basis @ factors, np.array(key, np.float64))
            terms = {monomial: int(factor) for monomial, factor in zip(self.monomials, factors, strict=True)}
            self.known[key] = Size._from_dict(terms) if exact else None
        return self.known[key]


def _elements(arrays: Sequence[NDArray[np.generic]], fit: _Fit) -> tuple[Size, ...] | None:
    first = arrays[0]
    if first.dtype.kind not in "iu" or first.ndim > 1 or first.size > LARGEST_SHAPE_VECTOR:
        return None
    if len({array.shape for array in arrays}) != 1:
        return None
    fitted = [fit([int(s) for s in samples]) for samples in zip(*(a.reshape(-1) for a in arrays), strict=True)]
    return None if None in fitted else tuple(size for size in fitted if size is not None)


def _probe_sizes(ranker: Ranker) -> list[dict[str, int]]:
    """Every combination of two sizes of the batch and of each axis, which determines all factors, and a few to confirm.

    Confirmed is in between, and with each axis long: there a slice to the newest 100 events is no longer all of them.
    """
    choices = {BATCH: (1, 3)}
    for place, axis in enumerate(ranker.axes):
        choices[axis.name] = (axis.min, min(axis.max, axis.min + 4 + place))
    rng = np.random.default_rng(1)
    corners = itertools.product(*(dict.fromkeys(pair) for pair in choices.values()))
    points = [dict(zip(choices, corner, strict=True)) for corner in corners]
    least = {name: low for name, (low, _) in choices.items()}
    points += [{**least, axis.name: max(axis.min, min(axis.opt, LONGEST))} for axis in ranker.axes]
    points += [
        {name: int(rng.integers(low, high + 1)) for name, (low, high) in choices.items()}
        for _ in range(CONFIRMING_RUNS)
    ]
    return points


def _runner_of_all_tensors(model: onnx.ModelProto) -> OnnxRunner:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    named = {output.name for output in watched.graph.output}
    for node in watched.graph.node:
        watched.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in node.output if name and name not in named
        )
    return OnnxRunner(watched, optimized=False)


def tensor_dims(tensor: Tensor) -> tuple[Size, ...]:
    """The shape of a tensor of the spec with its batch axis."""
    return (
        Size.of(BATCH),
        *(Size.of(axis.name if isinstance(axis, Axis) else axis) for axis in tensor.axes),
    )
