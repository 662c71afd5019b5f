"""The types of the table of dtypes as ONNX and numpy have them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx

from cleave.builders.contract.dtypes import DTYPES


def onnx_type(dtype: str) -> int:
    """The element type of ONNX, by name of the table."""
    kind: int = onnx.TensorProto.DataType.Value(DTYPES[dtype].onnx)
    return kind


def numpy_type(kind: int) -> np.dtype[Any]:
    """The dtype of numpy, or of ml_dtypes, for an element type of ONNX."""
    return onnx.helper.tensor_dtype_to_np_dtype(kind)


NARROW_FLOATS = frozenset(onnx_type(row.name) for row in DTYPES.values() if row.is_narrow_float)
"""The element types of ONNX for floats of fewer bits than float32."""


def largest_number(kind: int) -> float:
    """The largest finite number of a type of `NARROW_FLOATS`."""
    return float(ml_dtypes.finfo(numpy_type(kind)).max)  # type: ignore[no-untyped-call]
