"""The types of tensors: what each is called in ONNX, ONNX Runtime, Triton and safetensors, and where it may be used.

A type that is new to the project is one row here. Servers read this file, so it imports nothing but the standard
library.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dtype:
    """One row."""

    name: str
    """As numpy and torch call it, and as specs, signatures and manifests write it."""
    bytes: int
    """The bytes of one element."""
    onnx: str
    """Its name in `onnx.TensorProto.DataType`."""
    triton: str
    """Its name in requests; configs write `TYPE_` before it."""
    safetensors: str
    """Its name in the header of a file."""
    ranker: bool = False
    """A tensor of a `Ranker` may have it."""
    kept: bool = False
    """A summary that a graph makes in float32 may be kept in it."""
    in_numpy: bool = True
    """numpy has it by itself, so that servers can take, keep and return it."""
    rounding: float | None = None
    """The share of itself by which the result of an operator may be rounded, at most; None of integers."""
    tolerance: float | None = None
    """The largest difference, relative to values above 1, of what a graph computes whose products and weights have this
    type; None where graphs do not compute in it."""

    @property
    def onnxruntime(self) -> str:
        """As the inputs and outputs of a session of ONNX Runtime have it."""
        return f"tensor({self.onnx.lower()})"

    @property
    def is_float(self) -> bool:
        """Whether it holds real numbers."""
        return "float" in self.name

    @property
    def is_narrow_float(self) -> bool:
        """Whether it holds real numbers in fewer bits than float32."""
        return self.is_float and self.bytes < 4


_ROWS = (
    Dtype("float64", 8, "DOUBLE", "FP64", "F64", rounding=1e-15),
    Dtype("float32", 4, "FLOAT", "FP32", "F32", ranker=True, kept=True, rounding=1e-6, tolerance=1e-5),
    Dtype("float16", 2, "FLOAT16", "FP16", "F16", ranker=True, kept=True, rounding=1e-2, tolerance=5e-3),
    Dtype("bfloat16", 2, "BFLOAT16", "BF16", "BF16", in_numpy=False, rounding=1e-1, tolerance=2e-2),
    Dtype("int64", 8, "INT64", "INT64", "I64", ranker=True),
    Dtype("int32", 4, "INT32", "INT32", "I32", ranker=True),
    Dtype("int16", 2, "INT16", "INT16", "I16"),
    Dtype("int8", 1, "INT8", "INT8", "I8", ranker=True, kept=True),
    Dtype("uint64", 8, "UINT64", "UINT64", "U64"),
    Dtype("uint32", 4, "UINT32", "UINT32", "U32"),
    Dtype("uint16", 2, "UINT16", "UINT16", "U16"),
    Dtype("uint8", 1, "UINT8", "UINT8", "U8", ranker=True),
    Dtype("bool", 1, "BOOL", "BOOL", "BOOL", ranker=True),
)  # fmt: skip

DTYPES = {row.name: row for row in _ROWS}
"""By name."""

RANKER_DTYPES = tuple(row.name for row in DTYPES.values() if row.ranker)
"""What a tensor of a `Ranker` may have."""

SUMMARY_DTYPES = tuple(row.name for row in DTYPES.values() if row.kept)
"""What the float32 tensors of a summary may be kept in."""

TOLERANCES = {row.name: row.tolerance for row in DTYPES.values() if row.tolerance is not None}
"""The precisions that graphs compute in, the widest first, with the largest difference that each may make."""
