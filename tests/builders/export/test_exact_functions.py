"""Functions of torch have the same values in a graph: to a digit or two, and in the same bucket at every edge."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor as Values
from torch import nn
from torch.nn import functional

from cleave.builders.export.exact_functions import TRANSLATIONS
from cleave.builders.export.torch_export import OPSET
from cleave.builders.onnx_graph.random_inputs import AnyArray
from cleave.builders.onnx_graph.session import OnnxRunner

pytestmark = pytest.mark.filterwarnings("ignore")
"""The exporter warns of its own parts."""

Functions = dict[str, Callable[..., Values]]

POSITIVE = np.unique(
    np.concatenate(
        [
            2.0 ** np.arange(-30, 60),
            2.0 ** np.arange(1, 24) - 1,
            2.0 ** np.arange(1, 24) + 1,
            10.0 ** np.arange(-8, 15),
            np.arange(1, 40),
            np.arange(40) + 0.5,
            [0.1, 0.3, 0.7, 1 / 3, math.e, 86_400, 3_600, 1.7e9],
        ]
    )
).astype(np.float32)
REAL = np.concatenate([-POSITIVE[::-1], np.zeros(1, np.float32), POSITIVE])
WHOLE = np.unique(
    np.concatenate([np.arange(-40, 41), *(s * 2 ** np.arange(6, 62) + d for s in (-1, 1) for d in (-1, 0, 1))])
)

OF_POSITIVE: Functions = {"log2": torch.log2, "log10": torch.log10, "log1p": torch.log1p}
OF_REAL: Functions = {
    "log_sigmoid": functional.logsigmoid,
    "log_sigmoid of a module": nn.LogSigmoid(),
    "remainder by a constant": lambda x: x % 24.0,
    "remainder by a tenth": lambda x: x % 0.1,
    "remainder by a negative": lambda x: x % -7.0,
    "fmod": lambda x: torch.fmod(x, 24.0),
    "division by hours": lambda x: x // 3600.0,
    "division by a tenth": lambda x: x // 0.1,
    "division rounded down": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
    "division towards zero": lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
}
OF_PAIRS: Functions = {
    "remainder": torch.remainder,
    "floor_divide": torch.floor_divide,
    "div floor": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "logaddexp": torch.logaddexp,
    "logaddexp2": torch.logaddexp2,
}
OF_INTEGERS: Functions = {
    "remainder": lambda x: x % 1000,
    "hash": lambda x: (x * 2654435761) % 97,
    "fmod": lambda x: torch.fmod(x, 7),
    "div floor": lambda x: torch.div(x, 3600, rounding_mode="floor"),
    "div trunc": lambda x: torch.div(x, -3600, rounding_mode="trunc"),
    "floor_divide": lambda x: x // 86_400_000,
    "right shift": lambda x: x >> 33,
    "sign": lambda x: x >> 63,
    "left shift": lambda x: x << 3,
    "lowest bit": lambda x: x << 63,
    "shifts of functions": lambda x: torch.bitwise_left_shift(torch.bitwise_right_shift(x, 7), 2),
    "log2": lambda x: torch.log2((x.abs() + 1).float()).floor().long(),
}


class Several(nn.Module):
    """One output for each function of the same inputs."""

    def __init__(self, functions: Functions) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, *inputs: Values) -> tuple[Values, ...]:
        return tuple(function(*inputs) for function in self.functions.values())


def computed(functions: Functions, *arrays: AnyArray) -> dict[str, tuple[AnyArray, AnyArray, onnx.ModelProto]]:
    """What torch and ONNX Runtime make of these arrays, by function."""
    module, inputs = Several(functions).eval(), tuple(torch.from_numpy(array) for array in arrays)
    names = [f"input_{place}" for place in range(len(arrays))]
    program = torch.onnx.export(
        module,
        inputs,
        dynamo=True,
        opset_version=OPSET,
        input_names=names,
        dynamic_shapes={"inputs": tuple({0: torch.export.Dim.DYNAMIC} for _ in arrays)},
        custom_translation_table=TRANSLATIONS,
        verbose=False,
    )
    assert program is not None
    got = OnnxRunner(program.model_proto)(dict(zip(names, arrays, strict=True))).values()
    return {
        name: (value.numpy(), result, program.model_proto)
        for name, value, result in zip(functions, module(*inputs), got, strict=True)
    }


def pairs() -> tuple[AnyArray, AnyArray]:
    """Every other number over every third divisor, both signs, no zero below."""
    divisors = REAL[(np.abs(REAL) < 1e6) & (REAL != 0)][::7]
    left, right = np.meshgrid(REAL[np.abs(REAL) < 1e6][::3], divisors)
    return left.reshape(-1), right.reshape(-1)


def assert_in_the_same_bucket(name: str, expected: AnyArray, got: AnyArray) -> None:
    np.testing.assert_array_equal(np.floor(got), np.floor(expected), name)


def assert_close(name: str, expected: AnyArray, got: AnyArray, digits: float = 4.0) -> None:
    """Within some units in the last place."""
    apart = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    assert (apart <= digits * np.spacing(np.abs(expected))).all(), name


def test_logarithms() -> None:
    for name, (expected, got, _) in computed(OF_POSITIVE, POSITIVE).items():
        assert_in_the_same_bucket(name, expected, got)
        assert_close(name, expected, got)


def test_logarithms_at_the_ends() -> None:
    ends = np.array([0, -1, np.inf, np.nan, 1e-45, np.finfo(np.float32).tiny, np.finfo(np.float32).max], np.float32)
    for name, (expected, got, _) in computed(OF_POSITIVE, ends).items():
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-44, err_msg=name)


def test_functions_of_real_numbers() -> None:
    for name, (expected, got, _) in computed(OF_REAL, REAL).items():
        assert_in_the_same_bucket(name, expected, got)
        assert_close(name, expected, got)


def test_functions_of_two_numbers() -> None:
    for name, (expected, got, _) in computed(OF_PAIRS, *pairs()).items():
        if name.startswith("logaddexp"):
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(got, expected, name)


def test_small_numbers_keep_their_digits() -> None:
    small = np.concatenate([REAL[np.abs(REAL) < 0.5], np.array([1e-10, -1e-20], np.float32)])
    for name, (expected, got, _) in computed({"expm1": torch.expm1, "log1p": torch.log1p}, small).items():
        assert_close(name, expected, got)


def test_integers() -> None:
    for name, (expected, got, _) in computed(OF_INTEGERS, WHOLE).items():
        np.testing.assert_array_equal(got, expected, name)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_short_integers(dtype: type) -> None:
    functions: Functions = {"fmod": OF_INTEGERS["fmod"], "floor_divide": lambda x: x // 7}
    functions |= {"right shift": lambda x: x >> 2, "left shift": lambda x: x << 2}
    values: AnyArray = np.arange(max(-300, np.iinfo(dtype).min), 256).astype(dtype)
    for name, (expected, got, _) in computed(functions, values).items():
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected, name)


def test_a_choice_of_booleans() -> None:
    left, right = np.array([True, False, True, False]), np.array([True, True, False, False])
    chosen = computed({"where": lambda x, y: torch.where(x, y, ~y)}, left, right)
    for name, (expected, got, _) in chosen.items():
        np.testing.assert_array_equal(got, expected, name)


@pytest.mark.parametrize("offset", [0.25, 0.5, 1.5, 0.75])
def test_numbers_of_rows_that_a_module_keeps_off_the_edges_get_the_cheaper_logarithm(offset: float) -> None:
    """Times are off the edges no longer where float32 has no halves."""
    rows = np.arange(5000) % 7
    times = np.concatenate([2 ** np.arange(40), np.arange(5000 - 40)])

    def age(x: Values) -> Values:
        return (x > 0).long().sum(0, keepdim=True) - (x > 0).long().cumsum(0)

    functions: Functions = {
        "rows": lambda x, t: torch.log2(age(x).float() + offset) + 0 * t,
        "rows on edges": lambda x, t: torch.log2(age(x).float() + 1) + 0 * t,
        "times": lambda x, t: torch.log2(t.float() + offset) + 0 * x,
    }
    found = computed(functions, rows, times)
    model = found["rows"][2]
    assert sum(node.op_type == "Round" for node in model.graph.node) == 2
    for name, (expected, got, _) in found.items():
        assert_in_the_same_bucket(name, expected, got)
