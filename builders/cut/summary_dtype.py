"""Keeps the summary in fewer bytes: float16, or int8 with one scale per row.

The cast, or the quantization, is the last thing that a part does which makes the summary, and the first thing that a
part undoes which reads it. So store, network and copies carry the small form, and nothing inside the parts knows of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from cleave.builders.contract.dtypes import DTYPES, SUMMARY_DTYPES
from cleave.builders.cut.cut import Cut
from cleave.builders.cut.summary import SummaryTensor
from cleave.builders.errors import BuilderError
from cleave.builders.onnx_graph.dtypes import onnx_type
from cleave.builders.onnx_graph.edit import Step, copy_of, nodes_of_steps, rename_tensors
from cleave.builders.onnx_graph.random_inputs import AnyArray
from cleave.builders.onnx_graph.sizes import Size

INT8_MAX = 127
SCOPE = "summary"
SCALE_SUFFIX = "_scale"
SMALLEST_SCALE = 1e-30
"""A row of zeros has the scale 0, and is divided by this instead, which gives zeros again."""


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
    forms = {
        tensor.name: _cast(tensor, dtype) if DTYPES[dtype].is_float else _quantized(tensor)
        for tensor in cut.summary
        if tensor.dtype == "float32"
    }
    narrow = cut.with_graphs({name: _with_forms(part.graph, forms) for name, part in cut.parts.items()})
    return dataclasses.replace(
        narrow,
        summary=tuple(
            kept for tensor in cut.summary for kept in (forms[tensor.name].kept if tensor.name in forms else (tensor,))
        ),
    )


@dataclass(frozen=True)
class _Form:
    """How a tensor of the summary is kept."""

    wide: str
    """The name that the float32 tensor gets within the parts."""
    kept: tuple[SummaryTensor, ...]
    """The tensors that cross in its place."""
    made: list[Step]
    """The steps from the float32 tensor to what is kept."""
    undone: list[Step]
    """The steps back."""
    constants: Mapping[str, AnyArray] = field(default_factory=dict)
    """The constants that `made` reads, by name."""


def _with_forms(model: onnx.ModelProto, forms: Mapping[str, _Form]) -> onnx.ModelProto:
    """A part whose inputs and outputs have these forms where they are of the summary; itself where none is."""
    read, made = ([value.name for value in values if value.name in forms] for values in _interface(model))
    if not read and not made:
        return model
    changed = copy_of(model)
    graph = changed.graph
    rename_tensors(graph.node, {name: forms[name].wide for name in (*read, *made)})
    before = [node for name in read for node in nodes_of_steps(forms[name].undone, SCOPE)]
    after = [node for name in made for node in nodes_of_steps(forms[name].made, SCOPE)]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for form in made for name, value in forms[form].constants.items()
    )
    for values in _interface(changed):
        declared = [kept for value in values for kept in _declared(value, forms)]
        del values[:]
        values.extend(declared)
    onnx.checker.check_model(changed)
    return changed


def _interface(model: onnx.ModelProto) -> tuple[Any, Any]:
    return model.graph.input, model.graph.output


def _declared(value: onnx.ValueInfoProto, forms: Mapping[str, _Form]) -> list[onnx.ValueInfoProto]:
    return [kept.value_info() for kept in forms[value.name].kept] if value.name in forms else [value]


def _cast(tensor: SummaryTensor, dtype: str) -> _Form:
    kept, wide = tensor.name, f"{tensor.name}_float32"
    return _Form(
        wide,
        (dataclasses.replace(tensor, dtype=dtype),),
        made=[("Cast", [wide], kept, {"to": onnx_type(dtype)})],
        undone=[("Cast", [kept], wide, {"to": TensorProto.FLOAT})],
    )


def _quantized(tensor: SummaryTensor) -> _Form:
    kept, wide, scale = tensor.name, f"{tensor.name}_float32", f"{tensor.name}{SCALE_SUFFIX}"
    axis = _row_axis(tensor)
    scale_dims = tuple(Size.of(1) if place == axis else size for place, size in enumerate(tensor.dims))
    return _Form(
        wide,
        (dataclasses.replace(tensor, dtype="int8"), dataclasses.replace(tensor, name=scale, dims=scale_dims)),
        made=[
            ("Abs", [wide], f"{kept}_absolute", {}),
            ("ReduceMax", [f"{kept}_absolute", f"{kept}_axis"], f"{kept}_largest", {"keepdims": 1}),
            ("Div", [f"{kept}_largest", f"{kept}_steps"], scale, {}),
            ("Max", [scale, f"{kept}_smallest"], f"{kept}_divisor", {}),
            ("Div", [wide, f"{kept}_divisor"], f"{kept}_in_steps", {}),
            ("Round", [f"{kept}_in_steps"], f"{kept}_rounded", {}),
            ("Cast", [f"{kept}_rounded"], kept, {"to": TensorProto.INT8}),
        ],
        undone=[
            ("Cast", [kept], f"{kept}_steps_float32", {"to": TensorProto.FLOAT}),
            ("Mul", [f"{kept}_steps_float32", scale], wide, {}),
        ],
        constants={
            f"{kept}_axis": np.array([axis], np.int64),
            f"{kept}_steps": np.array(INT8_MAX, np.float32),
            f"{kept}_smallest": np.array(SMALLEST_SCALE, np.float32),
        },
    )


def _row_axis(tensor: SummaryTensor) -> int:
    """The last axis of a fixed size above 1, or the last one."""
    fixed = [place for place, size in enumerate(tensor.dims) if place and (size.constant or 0) > 1]
    return fixed[-1] if fixed else len(tensor.dims) - 1
