"""The one place that decides whether two ways to compute the same scores agree."""

from __future__ import annotations

from cleave.builders.contract.dtypes import TOLERANCES
from cleave.builders.errors import CheckError
from cleave.builders.onnx_graph.compare import largest_difference
from cleave.builders.onnx_graph.random_inputs import Arrays


class ParityError(CheckError):
    """Two ways to compute the same scores differ."""


def check_equal(expected: Arrays, got: Arrays, where: str, remedy: str) -> float:
    """The largest difference of any output, relative to values above 1.

    Raises:
        ParityError: it is too large; `where` begins the message, `remedy` ends it.
    """
    largest = 0.0
    for name, values in expected.items():
        found = largest_difference(name, values, got[name])
        if said := found.beyond(TOLERANCES["float32"]):
            raise ParityError(f"{where}: {said}; {remedy}")
        largest = max(largest, found.size)
    return largest
