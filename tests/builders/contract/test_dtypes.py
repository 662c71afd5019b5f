"""Every row of the table of dtypes says what the libraries say."""

from __future__ import annotations

import json
import struct

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
from onnx import helper
from tritonclient.utils import np_to_triton_dtype

from cleave.builders.contract.dtypes import DTYPES, RANKER_DTYPES, SUMMARY_DTYPES, TOLERANCES, Dtype
from cleave.builders.onnx_graph.dtypes import NARROW_FLOATS, largest_number, numpy_type, onnx_type

rows = pytest.mark.parametrize("row", DTYPES.values(), ids=DTYPES)


@rows
def test_numpy_and_onnx_agree(row: Dtype) -> None:
    dtype = numpy_type(onnx_type(row.name))
    assert (dtype.name, dtype.itemsize) == (row.name, row.bytes)


@rows
def test_what_numpy_has_by_itself_has_a_name_in_triton_and_safetensors(row: Dtype) -> None:
    dtype = numpy_type(onnx_type(row.name))
    assert row.in_numpy == (dtype.isbuiltin == 1)
    if not row.in_numpy:
        return
    assert np_to_triton_dtype(dtype) == row.triton
    saved = safetensors.numpy.save({"x": np.zeros(3, dtype)})
    (length,) = struct.unpack_from("<Q", saved)
    assert json.loads(saved[8 : 8 + length])["x"]["dtype"] == row.safetensors


@rows
def test_sessions_of_onnx_runtime_name_their_inputs_so(row: Dtype) -> None:
    kind = onnx_type(row.name)
    given, made = (helper.make_tensor_value_info(name, kind, [1]) for name in ("given", "made"))
    graph = helper.make_graph([helper.make_node("Identity", ["given"], ["made"])], "graph", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == row.onnxruntime


def test_narrow_floats_are_those_that_cannot_hold_what_float32_can() -> None:
    assert {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16} == NARROW_FLOATS
    assert largest_number(onnx.TensorProto.FLOAT16) == np.finfo(np.float16).max
    assert 3.3e38 < largest_number(onnx.TensorProto.BFLOAT16) < np.finfo(np.float32).max


def test_float32_comes_first_and_is_the_most_exact() -> None:
    assert RANKER_DTYPES[0] == SUMMARY_DTYPES[0] == next(iter(TOLERANCES)) == "float32"
    assert list(TOLERANCES.values()) == sorted(TOLERANCES.values())
