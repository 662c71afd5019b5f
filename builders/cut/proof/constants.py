"""The whole numbers that a graph is made of: where it cuts, compares or groups rows, it does so by one of them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

LARGEST_VECTOR = 16
"""Constants of more elements are weights, of which only the shape says something."""


def constants_of(model: onnx.ModelProto) -> tuple[int, ...]:
    """Every whole number above 1 in attributes, small constants and the shapes of weights, without its sign."""
    found: set[int] = set()
    for tensor in model.graph.initializer:
        found.update(tensor.dims)
        if int(np.prod(tensor.dims)) <= LARGEST_VECTOR:
            found.update(_whole_numbers(tensor))
    for node in model.graph.node:
        for attribute in node.attribute:
            found.update(attribute.ints)
            found.add(attribute.i)
            if attribute.HasField("t") and int(np.prod(attribute.t.dims)) <= LARGEST_VECTOR:
                found.update(_whole_numbers(attribute.t))
    return tuple(sorted({abs(int(number)) for number in found} - {0, 1}))


def _whole_numbers(tensor: onnx.TensorProto) -> list[int]:
    values = numpy_helper.to_array(tensor)
    if values.dtype.kind not in "iuf":
        return []
    numbers = values.reshape(-1).astype(np.float64)
    return [int(number) for number in numbers if np.isfinite(number) and number == np.rint(number)]
