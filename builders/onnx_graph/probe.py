"""Finds the shapes of all tensors of a graph, as functions of the axes, by running it at many sizes.

This works for any operator, where shape inference stops at the first operator or shape arithmetic that it does not
know. A size is a sum of products of distinct axes (`batch * history`, `history + candidates`, `4`). As many runs as
there are such products determine the factors, and each further run confirms them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.edit import copy_of
from cleave.builders.onnx_graph.random_inputs import batch_and_sizes, draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.onnx_graph.sizes import Size, tensor_dims
from cleave.builders.spec import Ranker

CONFIRMING_RUNS = 2
LONGEST = 512
"""The largest size at which an axis is probed, as all tensors of the graph are in memory at once."""
LARGEST_SHAPE_VECTOR = 16
"""Integer tensors of more elements are data, not shapes."""


@dataclass(frozen=True)
class Probe:
    """What is known of the tensors of a graph, by name."""

    dims: dict[str, tuple[Size | None, ...]]
    """The shape of every tensor; None where a size is not a polynomial of the axes."""
    values: dict[str, tuple[Size, ...]]
    """The elements of every small integer tensor of rank 0 or 1 whose elements are functions of the axes."""
    dtypes: dict[str, np.dtype[Any]]

    def shape(self, tensor: str) -> tuple[Size, ...] | None:
        """The shape of a tensor if all of it is known."""
        dims = self.dims.get(tensor)
        return None if dims is None or None in dims else tuple(size for size in dims if size is not None)


def probe(model: onnx.ModelProto, ranker: Ranker) -> Probe:
    """Run `model`, whose inputs are those of `ranker`, and fit a polynomial to every size and every shape vector.

    Raises:
        RunError: the graph fails at some sizes.
    """
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
    """Finds the polynomial with whole factors through samples, one for each of `points`.

    Args:
        points: the sizes of the batch and of every axis, by name.
    """

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
            self.known[key] = Size.from_terms(terms) if exact else None
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
    """The sizes to run at: every combination of two sizes of the batch and each axis, and some to confirm the fit.

    The combinations determine all factors. The fit is confirmed at sizes in between, and with each axis at a large
    size, where a slice to the newest 100 events is not all of them.
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
    watched = copy_of(model)
    named = {output.name for output in watched.graph.output}
    for node in watched.graph.node:
        watched.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in node.output if name and name not in named
        )
    return OnnxRunner(watched, optimized=False)
