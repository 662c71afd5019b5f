"""Leaves out the test for NaN behind a softmax, which keeps TensorRT from making one kernel of an attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnxscript import ir
from onnxscript.rewriter.pattern import RewriteRule

from cleave.builders.onnx_graph.rewrite import called, either, is_over_last_axis, rewritten


def without_nan_guards(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without `Where(IsNaN(weights), 0, weights)` between the Softmax and the product of an attention.

    A softmax of finite scores is NaN only where its mask is minus infinity for every key. The mask becomes the lowest
    finite number, and where no key can be read, which the mask alone says, the rows that the weights are multiplied
    into are zeroed instead of the weights: a product of zero weights is zero. Padding is masked like any key that is
    not read, and inputs that are NaN are refused before they get here.
    """
    return rewritten(model, RewriteRule(_guarded, _unguarded, _is_guard_of_mask))


def _guarded(op: Any, scores: Any, mask: Any, zero: Any, value: Any) -> Any:
    """The product of an attention's weights, which are zero where they are NaN, and its values."""
    weights = op.Softmax(op.Add(scores, mask), _outputs=["weights"])
    guarded = op.Where(op.IsNaN(weights), zero, weights)
    return op.MatMul(either("cast", op.Cast(guarded, _outputs=["narrow"]), guarded), value, _outputs=["read"])


def _is_guard_of_mask(context: Any, mask: Any, zero: Any, weights: Any, **rest: Any) -> bool:
    """Whether NaN becomes zero, and the mask is a number for keys that can be read and one for keys that cannot."""
    made_by = mask.producer()
    if made_by is None or made_by.op_type != "Where" or not is_over_last_axis(weights):
        return False
    constants = [each.const_value for each in (zero, *made_by.inputs[1:])]
    if any(each is None for each in constants):
        return False
    instead, shown, hidden = (each.numpy() for each in constants)
    is_one_kind = np.isfinite(hidden).all() or np.isneginf(hidden).all()
    return bool(not instead.any() and np.isfinite(shown).all() and is_one_kind)


def _unguarded(
    op: Any, scores: Any, mask: Any, value: Any, weights: Any, read: Any, narrow: Any = None, **rest: Any
) -> Any:
    name = read.producer().name
    can_read, shown, hidden = mask.producer().inputs
    numbers = hidden.const_value.numpy()
    endless = bool(np.isneginf(numbers).all())
    if endless:
        lowest = op.initializer(ir.tensor(np.full_like(numbers, np.finfo(numbers.dtype).min)), f"{name}/lowest")
        mask = called(f"{name}/mask", op.Where(can_read, shown, lowest))
    axis = weights.producer().attributes.get_int("axis", -1)
    masked = called(f"{name}/masked", op.Add(scores, mask))
    shares = called(f"{name}/Softmax", op.Softmax(masked, axis=axis))
    if narrow is not None:
        shares = called(f"{name}/weights", op.Cast(shares, to=read.dtype))
    product = called(name, op.MatMul(shares, value))
    return _zero_unread(op, product, can_read, read.dtype, name) if endless else product


def _zero_unread(op: Any, product: Any, can_read: Any, dtype: ir.DataType, name: str) -> Any:
    """Zero the rows of a product for which no key can be read."""
    last = op.initializer(ir.tensor(np.array([-1], np.int64)), f"{name}/last")
    zero = op.initializer(ir.tensor(np.zeros((), dtype.numpy())), f"{name}/zero")
    num_readable = called(f"{name}/Cast", op.Cast(can_read, to=ir.DataType.INT32))
    most = called(f"{name}/ReduceMax", op.ReduceMax(num_readable, last, keepdims=1))
    any_readable = called(f"{name}/Cast_2", op.Cast(most, to=ir.DataType.BOOL))
    return called(f"{name}/Where", op.Where(any_readable, product, zero))
