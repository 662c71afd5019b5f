"""Attention in the form that TensorRT makes one kernel of, so that its weights are never in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnxscript import ir
from onnxscript.rewriter.pattern import RewriteRule

from cleave.builders.onnx_graph.dtypes import NARROW_FLOATS, largest_number
from cleave.builders.onnx_graph.rewrite import called, either, is_over_last_axis, rewritten

ATTENTION_OPSET = 23
"""The first with `Attention`."""
SCORE_RANK = 4
"""Of an attention's weights: [batch, heads, queries, keys]."""


def with_attention(model: onnx.ModelProto) -> onnx.ModelProto:
    """Attention that is spelled out in half precision becomes ONNX `Attention`; the model itself where there is none.

    TensorRT makes one kernel of an `Attention` or refuses it, so that a plan which builds has no weights in memory. The
    mask is kept above half of the lowest number, as half precision would make minus infinity of float32's lowest, and
    NaN of a row of nothing else. Such a row, which reads masked keys only, then weighs them as if they were not masked
    instead of equally; where scores do not change with padding, which every build proves, these keys are all alike and
    any weights give the same.
    """
    return rewritten(model, RewriteRule(_spelled_out, _attention, _can_be_said), ATTENTION_OPSET)


def _spelled_out(op: Any, query: Any, key: Any, value: Any, scale: Any, mask: Any) -> Any:
    """`MatMul(softmax(MatMul(query, key) [* scale] [+ mask]), value)`, with casts around the softmax or without."""
    product = op.MatMul(query, key, _outputs=["product"])
    scores = either("cast_scores", op.Cast(product), product)
    scaled = either("scaled", op.Mul(scores, scale), op.Div(scores, scale, _outputs=["divided"]), scores)
    masked = either("masked", op.Add(scaled, mask), scaled)
    weights = op.Softmax(masked, _outputs=["weights"])
    return op.MatMul(either("cast_weights", op.Cast(weights), weights), value, _outputs=["read"])


def _can_be_said(
    context: Any,
    query: Any,
    key: Any,
    value: Any,
    product: Any,
    weights: Any,
    read: Any,
    scale: Any = None,
    **rest: Any,
) -> bool:
    """Whether the operator can say it: half precision, heads apart, a softmax over keys, and one number as scale."""
    in_half = product.dtype in NARROW_FLOATS and read.dtype in NARROW_FLOATS
    with_heads = all(each.shape is not None and len(each.shape) == SCORE_RANK for each in (query, key, value))
    by_number = scale is None or (scale.const_value is not None and scale.const_value.size == 1)
    return is_over_last_axis(weights) and in_half and with_heads and by_number


def _attention(
    op: Any, query: Any, key: Any, value: Any, read: Any, scale: Any = None, mask: Any = None, divided: Any = None,
    **rest: Any,
) -> Any:  # fmt: skip
    name, half = read.producer().name, read.dtype
    inputs = [query, called(f"{name}/keys", op.Transpose(key, perm=[0, 1, 3, 2])), value]
    if mask is not None:
        lowest = op.initializer(ir.tensor(np.array(-largest_number(half) / 2, np.float32)), f"{name}/half_of_lowest")
        bounded = called(f"{name}/Max", op.Max(mask, lowest))
        inputs.append(called(f"{name}/Cast", op.Cast(bounded, to=half)))
    factor = 1.0 if scale is None else float(scale.const_value.numpy().reshape(()))
    return called(f"{name}/Attention", op.Attention(*inputs, scale=factor if divided is None else 1 / factor))
