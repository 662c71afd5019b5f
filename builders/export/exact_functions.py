"""ONNX graphs of torch functions that torch.onnx.export writes as others, which round otherwise.

`log2` becomes a quotient of logarithms, which is 2.9999998 for 8; `x % y` becomes `x - floor(x / y) * y`, which is of
no use for large x; a division of integers goes through float32. Before a floor, a comparison or a cast to integers such
a value lands in another bucket, and the row of another embedding is read. Here each is written so that it is right to
the last digit or two, in operators that ONNX Runtime and TensorRT have.

Each function takes and gives what torch's function of its name does, traced by onnxscript.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnxscript import ir
from onnxscript import opset20 as op
from onnxscript.function_libs.torch_lib.ops.core import aten_div_mode, aten_floor_divide, aten_log2, aten_where

from cleave.builders.export.packed_sequences import Value, recurrent_layer
from cleave.builders.onnx_graph.random_inputs import AnyArray

NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
COUNTING = ("Add", "Cast", "CumSum", "Neg", "ReduceSum", "Sub")
BETWEEN_EDGES = (0.25, 0.75)
"""Fractional parts of constants that keep a whole number so far from the next power of two."""


def log2(self: Value) -> Value:
    """The exponent of the nearest power of two, and the logarithm of the rest, which is near 1."""
    if _is_between_edges(self):
        return aten_log2(self)
    return _in_float32(self, lambda x, dtype: _log(x, dtype, 2.0))


def log10(self: Value) -> Value:
    """As `log2`."""
    return _in_float32(self, lambda x, dtype: _log(x, dtype, 10.0))


def _log(x: Value, dtype: ir.DataType, base: float) -> Value:
    """`r + log(x / base^r) / log(base)`: whole where x is a power of the base, as the logarithm of 1 is 0."""
    finfo = np.finfo(dtype.numpy())
    least, most = math.ceil(math.log(finfo.tiny, base)), math.floor(math.log(finfo.max, base))
    scale = _number(math.log(base), dtype)
    exponent = op.Clip(op.Round(op.Div(op.Log(x), scale)), _number(least, dtype), _number(most, dtype))
    rest = op.Div(x, op.Pow(_number(base, dtype), exponent))
    return op.Add(exponent, op.Div(op.Log(rest), scale))


def _is_between_edges(x: Value) -> bool:
    """Whether x is a number of rows plus a constant that keeps it off every power of two from 1 on.

    A module that does so has seen to its buckets itself, and the quotient of logarithms is cheaper. Beyond 2^23, where
    float32 loses the constant, there are no numbers of rows, but gaps between times.
    """
    add = x.producer()
    if add is None or add.op_type != "Add":
        return False
    count, constant = add.inputs
    value = ir.convenience.get_const_tensor(constant)
    if value is None or value.size != 1 or not _is_count(count):
        return False
    return BETWEEN_EDGES[0] <= float(value.numpy()) % 1 <= BETWEEN_EDGES[1]


def _is_count(x: Value) -> bool:
    """Whether x is made of truth values and constants alone, by sums and differences."""
    if x.dtype == ir.DataType.BOOL or ir.convenience.get_const_tensor(x) is not None:
        return True
    node = x.producer()
    return node is not None and node.op_type in COUNTING and all(_is_count(each) for each in node.inputs if each)


def log1p(self: Value) -> Value:
    """`log(1 + x)` times `x / ((1 + x) - 1)`, which undoes what the sum was rounded by (Goldberg 1991, theorem 4)."""
    return _in_float32(self, _log1p)


def _log1p(x: Value, dtype: ir.DataType) -> Value:
    one = _number(1, dtype)
    total = op.Add(x, one)
    kept = op.Sub(total, one)
    undone = op.Where(op.Equal(kept, x), one, op.Div(x, kept))
    return op.Where(op.Equal(kept, _number(0, dtype)), x, op.Mul(op.Log(total), undone))


def expm1(self: Value) -> Value:
    """`exp(x) - 1`; near zero times `x / log(exp(x))`, which undoes what `exp(x)` was rounded by."""
    return _in_float32(self, _expm1)


def _expm1(x: Value, dtype: ir.DataType) -> Value:
    one = _number(1, dtype)
    power = op.Exp(x)
    difference = op.Sub(power, one)
    undone = op.Where(op.Equal(power, one), x, op.Div(op.Mul(difference, x), op.Log(power)))
    return op.Where(op.Less(op.Abs(x), _number(0.5, dtype)), undone, difference)


def log_sigmoid(self: Value) -> Value:
    """`min(x, 0) - log1p(exp(-|x|))`, where the logarithm of a sigmoid is minus infinity below -100."""
    return _in_float32(self, _log_sigmoid)


def _log_sigmoid(x: Value, dtype: ir.DataType) -> Value:
    return op.Sub(op.Min(x, _number(0, dtype)), _log1p(op.Exp(op.Neg(op.Abs(x))), dtype))


def logaddexp(self: Value, other: Value) -> Value:
    """`max(a, b) + log1p(exp(-|a - b|))`, which does not overflow."""
    return _logaddexp(self, other, self.dtype)


def logaddexp2(self: Value, other: Value) -> Value:
    """As `logaddexp`, of powers of two."""
    return _logaddexp(self, other, self.dtype, math.log(2))


def _logaddexp(left: Value, right: Value, dtype: ir.DataType, scale: float = 1.0) -> Value:
    apart = op.Where(op.Equal(left, right), _number(0, dtype), op.Abs(op.Sub(left, right)))
    added = _log1p(op.Exp(op.Mul(apart, _number(-scale, dtype))), dtype)
    return op.Add(op.Max(left, right), op.Div(added, _number(scale, dtype)))


def remainder(self: Value, other: Value | float) -> Value:
    """The remainder with the sign of the divisor, from the exact one with the sign of the dividend."""
    divisor = _operand(other, self.dtype)
    if self.dtype.is_integer():
        return op.Mod(self, divisor)
    rest = op.Mod(self, divisor, fmod=1)
    return op.Where(_are_of_two_signs(rest, divisor, self.dtype), op.Add(rest, divisor), rest)


def _are_of_two_signs(rest: Value, divisor: Value, dtype: ir.DataType) -> Value:
    zero = _number(0, dtype)
    return op.And(op.Not(op.Equal(rest, zero)), op.Xor(op.Less(rest, zero), op.Less(divisor, zero)))


def floor_divide(self: Value, other: Value | float) -> Value:
    """The quotient rounded down: of floats from the exact remainder, as a rounded quotient may be one too many."""
    divisor, dtype = _operand(other, self.dtype), self.dtype
    if dtype.is_integer():
        return aten_floor_divide(self, divisor)
    rest = op.Mod(self, divisor, fmod=1)
    quotient = op.Div(op.Sub(self, rest), divisor)
    quotient = op.Sub(quotient, op.Cast(_are_of_two_signs(rest, divisor, dtype), to=dtype))
    down = op.Floor(quotient)  # it is whole but for the rounding of the division
    nearest = op.Add(down, op.Cast(op.Greater(op.Sub(quotient, down), _number(0.5, dtype)), to=dtype))
    return op.Where(op.Equal(divisor, _number(0, dtype)), op.Div(self, divisor), nearest)


def div_mode(self: Value, other: Value | float, rounding_mode: str | None = None) -> Value:
    """A quotient rounded down, towards zero, or not."""
    if rounding_mode == "floor":
        return floor_divide(self, other)
    divisor = _operand(other, self.dtype)
    if rounding_mode == "trunc" and self.dtype.is_integer():
        return op.Div(self, divisor)
    return aten_div_mode(self, divisor, rounding_mode)


def fmod(self: Value, other: Value | float) -> Value:
    """The remainder with the sign of the dividend: of integers without the float64 that ONNX Runtime takes for it."""
    divisor = _operand(other, self.dtype)
    if self.dtype.is_integer():
        return op.Sub(self, op.Mul(op.Div(self, divisor), divisor))
    return op.Mod(self, divisor, fmod=1)


def right_shift(self: Value, other: int) -> Value:
    """Of integers a division by a power of two, rounded down; the exporter makes int8 of uint8."""
    dtype = self.dtype
    if dtype.is_signed() and other >= dtype.bitwidth - 1:  # nothing but the sign is left
        return op.Neg(op.Cast(op.Less(self, _number(0, dtype)), to=dtype))
    return floor_divide(self, _number(1 << other, dtype))


def left_shift(self: Value, other: int) -> Value:
    """Of integers a product with a power of two, which wraps around as bits are shifted out."""
    power = np.left_shift(np.ones((), self.dtype.numpy()), other)
    return op.Mul(self, _number(power, self.dtype))


def where(condition: Value, self: Value, other: Value) -> Value:
    """A choice; of booleans spelled out, as ONNX Runtime has no Where of them."""
    if self.dtype == ir.DataType.BOOL:
        return op.Or(op.And(condition, self), op.And(op.Not(condition), other))
    return aten_where(condition, self, other)


def _in_float32(x: Value, function: Callable[[Value, ir.DataType], Value]) -> Value:
    """A function of floats; 16 bits are computed in float32, and rounded to 16 once."""
    if x.dtype in NARROW:
        return op.Cast(function(op.Cast(x, to=ir.DataType.FLOAT), ir.DataType.FLOAT), to=x.dtype)
    return function(x, x.dtype)


def _operand(value: Value | float, dtype: ir.DataType) -> Value:
    return _number(value, dtype) if isinstance(value, int | float) else value


def _number(value: float | AnyArray, dtype: ir.DataType) -> Value:
    made = op.Constant(value=ir.tensor(np.array(value, dtype.numpy())))
    made.type = ir.TensorType(dtype)  # which functions of torch_lib look at
    return made


_ATEN = torch.ops.aten
TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    _ATEN.log2.default: log2,
    _ATEN.log10.default: log10,
    _ATEN.log1p.default: log1p,
    _ATEN.expm1.default: expm1,
    _ATEN.log_sigmoid.default: log_sigmoid,
    _ATEN.logaddexp.default: logaddexp,
    _ATEN.logaddexp2.default: logaddexp2,
    _ATEN.remainder.Tensor: remainder,
    _ATEN.remainder.Scalar: remainder,
    _ATEN.floor_divide.default: floor_divide,
    _ATEN.div.Tensor_mode: div_mode,
    _ATEN.div.Scalar_mode: div_mode,
    _ATEN.fmod.Tensor: fmod,
    _ATEN.fmod.Scalar: fmod,
    _ATEN.__rshift__.Scalar: right_shift,
    _ATEN.bitwise_right_shift.Tensor_Scalar: right_shift,
    _ATEN.__lshift__.Scalar: left_shift,
    _ATEN.bitwise_left_shift.Tensor_Scalar: left_shift,
    _ATEN.where.self: where,
    torch.ops.cleave.recurrent_layer.default: recurrent_layer,
}
"""What torch.onnx.export writes instead, by torch's operator."""
