"""Rewrites of a graph by patterns of nodes: onnxscript's rewriter, from ONNX to ONNX."""

from __future__ import annotations

from typing import Any

import onnx
from onnxscript import ir
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.pattern import OrValue, RewriteRule, RewriteRuleSet


def rewritten(model: onnx.ModelProto, rule: RewriteRule, opset: int | None = None) -> onnx.ModelProto:
    """The graph with every match of a rule replaced; the model itself where nothing matches.

    Operands of operators that commute match in either order. A match whose inner tensors are read by others stays.

    Args:
        opset: the opset of the result, if the rule needs another one than the model has.
    """
    result = RewritePass(RewriteRuleSet([rule], commute=True))(ir.from_proto(onnx.shape_inference.infer_shapes(model)))
    if not result.modified:
        return model
    if opset is not None:
        result.model.opset_imports[""] = opset
    ir.passes.common.RemoveUnusedNodesPass()(result.model)
    changed: onnx.ModelProto = ir.to_proto(result.model)
    del changed.graph.value_info[:]
    onnx.checker.check_model(changed)
    return changed


def either(name: str, *alternatives: Any) -> Any:
    """A part of a pattern that matches any of these, the first that does.

    Args:
        name: different for each part: the rewriter cannot copy a pattern, as it does to commute operands, with parts
            that have none.
    """
    return OrValue(alternatives, tag_var=name)


def is_over_last_axis(softmax: Any) -> bool:
    """Whether a softmax, of which this is the output, is one over the last axis."""
    axis: int = softmax.producer().attributes.get_int("axis", -1)
    return axis == -1 or (softmax.shape is not None and axis == len(softmax.shape) - 1)


def called(name: str, value: Any) -> Any:
    """The value under a name, which its node gets, too.

    What is not called by a name gets one of the rewriter, which may be that of another tensor of the whole model.
    """
    value.name = value.producer().name = name
    return value
