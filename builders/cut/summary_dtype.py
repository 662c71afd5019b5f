"""Keeps the summary in fewer bytes: float16, or int8 with one scale per row.

The cast, or the quantization, is the last thing the history encoder does and the first thing the candidate scorer
undoes, so store, network and copies carry the small form and no other part knows of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from cleave.builders.contract.dtypes import DTYPES, SUMMARY_DTYPES
from cleave.builders.cut.cut import Cut
from cleave.builders.cut.summary import SummaryTensor
from cleave.builders.errors import BuilderError
from cleave.builders.names import CANDIDATE_SCORER, HISTORY_ENCODER
from cleave.builders.onnx_graph.dtypes import onnx_type
from cleave.builders.onnx_graph.edit import Step, nodes_of_steps, rename_tensors
from cleave.builders.onnx_graph.random_inputs import AnyArray
from cleave.builders.onnx_graph.sizes import Size

INT8_MAX = 127
SCOPE = "summary"
SCALE_SUFFIX = "_scale"
SMALLEST_SCALE = 1e-30
"""A row of zeros has the scale 0; dividing by this instead gives zeros again."""


class SummaryDtypeError(BuilderError):
    """A summary cannot be kept in this type."""


def with_summary_dtype(cut: Cut, dtype: str) -> Cut:
    """The cut whose float32 summary tensors cross in `dtype`; masks and ids stay as they are.

    int8: `q = round(x / scale)`, `scale = max |x| / 127` over a row, in float32. A row lies along the last axis of
    fixed size, so that neither the length of the history nor its padding changes what a row is.

    Raises:
        SummaryDtypeError: an unknown dtype.
    """
    if dtype not in SUMMARY_DTYPES:
        raise SummaryDtypeError(f"--summary-dtype: expected one of {', '.join(SUMMARY_DTYPES)}, got {dtype!r}; choose")
    if dtype == "float32":
        return cut
    encoder, scorer = onnx.ModelProto(), onnx.ModelProto()
    encoder.CopyFrom(cut.history_encoder)
    scorer.CopyFrom(cut.candidate_scorer)
    summary: list[SummaryTensor] = []
    before: list[onnx.NodeProto] = []
    for tensor in cut.summary:
        if tensor.dtype != "float32":
            summary.append(tensor)
        elif DTYPES[dtype].is_float:
            summary.append(_cast(tensor, dtype, encoder.graph, scorer.graph, before))
        else:
            summary += _quantize(tensor, encoder.graph, scorer.graph, before)
    _declare(encoder.graph.output, summary)
    _declare(scorer.graph.input, summary)
    nodes = [*before, *scorer.graph.node]
    del scorer.graph.node[:]
    scorer.graph.node.extend(nodes)
    for model in (encoder, scorer):
        onnx.checker.check_model(model)
    narrow = cut.with_graphs({HISTORY_ENCODER: encoder, CANDIDATE_SCORER: scorer})
    return dataclasses.replace(narrow, summary=tuple(summary))


def _cast(
    tensor: SummaryTensor, dtype: str, encoder: onnx.GraphProto, scorer: onnx.GraphProto, before: list[onnx.NodeProto]
) -> SummaryTensor:
    kept, wide = tensor.name, f"{tensor.name}_float32"
    for graph in (encoder, scorer):
        rename_tensors(graph.node, {kept: wide})
    encoder.node.extend(nodes_of_steps([("Cast", [wide], kept, {"to": onnx_type(dtype)})], SCOPE))
    before += nodes_of_steps([("Cast", [kept], wide, {"to": TensorProto.FLOAT})], SCOPE)
    return dataclasses.replace(tensor, dtype=dtype)


def _quantize(
    tensor: SummaryTensor, encoder: onnx.GraphProto, scorer: onnx.GraphProto, before: list[onnx.NodeProto]
) -> list[SummaryTensor]:
    kept, wide, scale = tensor.name, f"{tensor.name}_float32", f"{tensor.name}{SCALE_SUFFIX}"
    axis = _row_axis(tensor)
    constants: dict[str, AnyArray] = {
        f"{kept}_axis": np.array([axis], np.int64),
        f"{kept}_steps": np.array(INT8_MAX, np.float32),
        f"{kept}_smallest": np.array(SMALLEST_SCALE, np.float32),
    }
    encoder.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    for graph in (encoder, scorer):
        rename_tensors(graph.node, {kept: wide})
    steps: list[Step] = [
        ("Abs", [wide], f"{kept}_absolute", {}),
        ("ReduceMax", [f"{kept}_absolute", f"{kept}_axis"], f"{kept}_largest", {"keepdims": 1}),
        ("Div", [f"{kept}_largest", f"{kept}_steps"], scale, {}),
        ("Max", [scale, f"{kept}_smallest"], f"{kept}_divisor", {}),
        ("Div", [wide, f"{kept}_divisor"], f"{kept}_in_steps", {}),
        ("Round", [f"{kept}_in_steps"], f"{kept}_rounded", {}),
        ("Cast", [f"{kept}_rounded"], kept, {"to": TensorProto.INT8}),
    ]
    encoder.node.extend(nodes_of_steps(steps, SCOPE))
    undone: list[Step] = [
        ("Cast", [kept], f"{kept}_steps_float32", {"to": TensorProto.FLOAT}),
        ("Mul", [f"{kept}_steps_float32", scale], wide, {}),
    ]
    before += nodes_of_steps(undone, SCOPE)
    scale_dims = tuple(Size.of(1) if place == axis else size for place, size in enumerate(tensor.dims))
    return [
        dataclasses.replace(tensor, dtype="int8"),
        dataclasses.replace(tensor, name=scale, dims=scale_dims),
    ]


def _row_axis(tensor: SummaryTensor) -> int:
    """The last axis of a fixed size above 1, or the last one."""
    fixed = [place for place, size in enumerate(tensor.dims) if place and (size.constant or 0) > 1]
    return fixed[-1] if fixed else len(tensor.dims) - 1


def _declare(values: Any, summary: Sequence[SummaryTensor]) -> None:
    """Write the summary tensors' names, types and shapes into the inputs or outputs of a graph, first among them."""
    names = {tensor.name for tensor in summary}
    others = [value for value in values if value.name not in names]
    del values[:]
    values.extend([*(tensor.value_info() for tensor in summary), *others])
