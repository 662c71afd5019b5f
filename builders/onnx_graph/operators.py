"""What each ONNX operator does to its data: the one table that the cut, the cost model and the passes read.

An operator that is new to them is one row here. If it mixes the rows of a sequence, `cut.joint_sequence_rules` needs
a rule for it as well, and if it is a product, `cost.flops` needs the formula of its FLOPs.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import onnx


class Kind(Enum):
    """How the output of an operator is made of its inputs."""

    ELEMENTWISE = auto()
    """An element of the output is made of the elements at its place in the inputs, which are broadcast."""
    SOFTMAX = auto()
    """A softmax along one axis."""
    SCAN = auto()
    """An element of the output is made of elements along one axis; the shape stays the same."""
    NORMALIZATION = auto()
    """Every element is divided by a norm over the axes from attribute `axis` to the last one."""
    CHANNEL_NORMALIZATION = auto()
    """Every element is divided by a norm over other axes than the last ones, or by a constant one."""
    REDUCTION = auto()
    """The elements along the axes that the second input names become one."""
    SEARCH = auto()
    """Places of elements with some property."""
    PRODUCT = auto()
    """A matrix product, or several. Its work exceeds the bytes that it touches, so it is never worth repeating."""
    VIEW = auto()
    """The same data under another name or shape: nothing is moved."""
    SIZE = auto()
    """Sizes of the input, whatever its data."""
    MOVE = auto()
    """Elements of the inputs in another order, a choice of them, or repetitions: nothing is computed."""
    OTHER = auto()
    """None of these, as whatever has no row: its work is taken for one operation per element of the output."""


@dataclass(frozen=True)
class Operator:
    """One row."""

    name: str
    kind: Kind
    flops: int = 1
    """Operations per element: of the input for reductions and searches, of the output for all others. What products
    compute depends on more than that, see `cost.flops`."""
    float32: bool = False
    """Adds up or amplifies rounding errors, so it is computed in float32 whatever the precision of a graph."""
    scores: bool = False
    """Scales or masks the scores of an attention, if a softmax reads its output."""
    linear: bool = False
    """Its output is about as large as its inputs: a sum that goes through it is still as large."""
    sums: bool = False
    """Adds up elements, or products of them, over an axis that may vary from request to request."""
    keeps_ids: bool = False
    """An id that goes through it is still the same id."""
    modular: bool = False
    """The lower 32 bits of an integer output depend on the lower 32 bits of the inputs alone."""
    reads_part: bool = False
    """Reads only as much of its first input as it writes."""
    places: int | None = None
    """The input that holds places in the first one, where a place that the first one does not have is an error."""
    axis_inputs: tuple[int, ...] = ()
    """Inputs that name axes, or places along them, and may be int32 as well as int64."""

    @property
    def is_product(self) -> bool:
        """Whether its work exceeds the bytes that it touches."""
        return self.kind is Kind.PRODUCT

    @property
    def is_view(self) -> bool:
        """Whether it moves no data."""
        return self.kind in (Kind.VIEW, Kind.SIZE)

    @property
    def int64_inputs(self) -> frozenset[int]:
        """The inputs that ONNX takes in int64 alone, and those that name axes."""
        return _always_int64(self.name)[0] | set(self.axis_inputs)

    @property
    def int64_outputs(self) -> frozenset[int]:
        """The outputs that are int64 whatever the types of the inputs are."""
        return _always_int64(self.name)[1]


@functools.cache
def _always_int64(name: str) -> tuple[frozenset[int], frozenset[int]]:
    """The places of the inputs and of the outputs for which ONNX's schema of an operator knows no type but int64."""
    if not onnx.defs.has(name):
        return frozenset(), frozenset()
    schema = onnx.defs.get_schema(name)
    inputs, outputs = (
        frozenset(place for place, formal in enumerate(formals) if set(formal.types) == {"tensor(int64)"})
        for formals in (schema.inputs, schema.outputs)
    )
    return inputs, outputs


_COLUMNS_OF_KIND: dict[Kind, dict[str, Any]] = {
    Kind.SOFTMAX: {"flops": 4, "float32": True},
    Kind.SCAN: {"float32": True},
    Kind.NORMALIZATION: {"float32": True},
    Kind.CHANNEL_NORMALIZATION: {"float32": True},
    Kind.REDUCTION: {"float32": True},
    Kind.SEARCH: {"float32": True},
    Kind.PRODUCT: {"linear": True},
    Kind.VIEW: {"flops": 0, "linear": True, "keeps_ids": True, "modular": True},
    Kind.SIZE: {"flops": 0},
    Kind.MOVE: {"flops": 0, "linear": True, "modular": True},
}
"""What the columns of a row are unless it says otherwise."""


def _row(name: str, kind: Kind, **columns: Any) -> Operator:
    return Operator(name, kind, **_COLUMNS_OF_KIND.get(kind, {}) | columns)


_ROWS = (
    _row("Abs", Kind.ELEMENTWISE),
    _row("Acos", Kind.ELEMENTWISE),
    _row("Acosh", Kind.ELEMENTWISE),
    _row("Add", Kind.ELEMENTWISE, scores=True, linear=True, modular=True),
    _row("And", Kind.ELEMENTWISE),
    _row("ArgMax", Kind.SEARCH),
    _row("ArgMin", Kind.SEARCH),
    _row("Asin", Kind.ELEMENTWISE),
    _row("Asinh", Kind.ELEMENTWISE),
    _row("Atan", Kind.ELEMENTWISE),
    _row("Atanh", Kind.ELEMENTWISE),
    _row("Attention", Kind.PRODUCT),
    _row("BatchNormalization", Kind.CHANNEL_NORMALIZATION),
    _row("BitShift", Kind.ELEMENTWISE),
    _row("BitwiseAnd", Kind.ELEMENTWISE, modular=True),
    _row("BitwiseNot", Kind.ELEMENTWISE, modular=True),
    _row("BitwiseOr", Kind.ELEMENTWISE, modular=True),
    _row("BitwiseXor", Kind.ELEMENTWISE, modular=True),
    _row("Cast", Kind.ELEMENTWISE, flops=0, keeps_ids=True),
    _row("Ceil", Kind.ELEMENTWISE),
    _row("Celu", Kind.ELEMENTWISE),
    _row("Clip", Kind.ELEMENTWISE, scores=True, keeps_ids=True),
    _row("Concat", Kind.MOVE, keeps_ids=True),
    _row("Constant", Kind.MOVE),
    _row("ConstantOfShape", Kind.MOVE),
    _row("Conv", Kind.PRODUCT),
    _row("ConvTranspose", Kind.PRODUCT),
    _row("Cos", Kind.ELEMENTWISE),
    _row("Cosh", Kind.ELEMENTWISE),
    _row("CumSum", Kind.SCAN, axis_inputs=(1,), modular=True),
    _row("Div", Kind.ELEMENTWISE, scores=True),
    _row("Einsum", Kind.PRODUCT, sums=True),
    _row("Elu", Kind.ELEMENTWISE),
    _row("Equal", Kind.ELEMENTWISE),
    _row("Erf", Kind.ELEMENTWISE),
    _row("Exp", Kind.ELEMENTWISE, float32=True),
    _row("Expand", Kind.MOVE, keeps_ids=True),
    _row("Flatten", Kind.VIEW),
    _row("Floor", Kind.ELEMENTWISE),
    _row("GRU", Kind.PRODUCT),
    _row("Gather", Kind.MOVE, reads_part=True, places=1),
    _row("GatherElements", Kind.MOVE, reads_part=True, places=1),
    _row("GatherND", Kind.MOVE, reads_part=True),
    _row("Gelu", Kind.ELEMENTWISE),
    _row("Gemm", Kind.PRODUCT),
    _row("Greater", Kind.ELEMENTWISE),
    _row("GreaterOrEqual", Kind.ELEMENTWISE),
    _row("GroupNormalization", Kind.CHANNEL_NORMALIZATION),
    _row("HardSigmoid", Kind.ELEMENTWISE),
    _row("HardSwish", Kind.ELEMENTWISE),
    _row("Hardmax", Kind.SCAN),
    _row("Identity", Kind.VIEW),
    _row("InstanceNormalization", Kind.CHANNEL_NORMALIZATION),
    _row("IsInf", Kind.ELEMENTWISE),
    _row("IsNaN", Kind.ELEMENTWISE),
    _row("LSTM", Kind.PRODUCT),
    _row("LayerNormalization", Kind.NORMALIZATION, flops=7),
    _row("LeakyRelu", Kind.ELEMENTWISE),
    _row("Less", Kind.ELEMENTWISE),
    _row("LessOrEqual", Kind.ELEMENTWISE),
    _row("Log", Kind.ELEMENTWISE, float32=True),
    _row("LogSoftmax", Kind.SOFTMAX),
    _row("LpNormalization", Kind.CHANNEL_NORMALIZATION),
    _row("MatMul", Kind.PRODUCT, sums=True),
    _row("Max", Kind.ELEMENTWISE, scores=True),
    _row("Mean", Kind.ELEMENTWISE),
    _row("MeanVarianceNormalization", Kind.CHANNEL_NORMALIZATION),
    _row("Min", Kind.ELEMENTWISE, scores=True),
    _row("Mish", Kind.ELEMENTWISE),
    _row("Mod", Kind.ELEMENTWISE),
    _row("Mul", Kind.ELEMENTWISE, scores=True, linear=True, modular=True),
    _row("Neg", Kind.ELEMENTWISE, scores=True, linear=True, modular=True),
    _row("NonZero", Kind.SEARCH),
    _row("Not", Kind.ELEMENTWISE),
    _row("OneHot", Kind.MOVE),
    _row("Or", Kind.ELEMENTWISE),
    _row("PRelu", Kind.ELEMENTWISE),
    _row("Pad", Kind.MOVE, keeps_ids=True, axis_inputs=(3,)),
    _row("Pow", Kind.ELEMENTWISE, float32=True),
    _row("RMSNormalization", Kind.NORMALIZATION, flops=5),
    _row("RNN", Kind.PRODUCT),
    _row("Range", Kind.MOVE, float32=True),
    _row("Reciprocal", Kind.ELEMENTWISE, float32=True),
    _row("ReduceL1", Kind.REDUCTION),
    _row("ReduceL2", Kind.REDUCTION),
    _row("ReduceLogSum", Kind.REDUCTION),
    _row("ReduceLogSumExp", Kind.REDUCTION),
    _row("ReduceMax", Kind.REDUCTION),
    _row("ReduceMean", Kind.REDUCTION),
    _row("ReduceMin", Kind.REDUCTION),
    _row("ReduceProd", Kind.REDUCTION),
    _row("ReduceSum", Kind.REDUCTION, sums=True, modular=True),
    _row("ReduceSumSquare", Kind.REDUCTION),
    _row("Relu", Kind.ELEMENTWISE),
    _row("Reshape", Kind.VIEW),
    _row("Round", Kind.ELEMENTWISE),
    _row("ScatterElements", Kind.MOVE, places=1),
    _row("ScatterND", Kind.MOVE),
    _row("Selu", Kind.ELEMENTWISE),
    _row("Shape", Kind.SIZE),
    _row("Shrink", Kind.ELEMENTWISE),
    _row("Sigmoid", Kind.ELEMENTWISE),
    _row("Sign", Kind.ELEMENTWISE),
    _row("Sin", Kind.ELEMENTWISE),
    _row("Sinh", Kind.ELEMENTWISE),
    _row("Size", Kind.SIZE),
    _row("Slice", Kind.MOVE, keeps_ids=True, reads_part=True, axis_inputs=(1, 2, 3, 4)),
    _row("Softmax", Kind.SOFTMAX),
    _row("Softplus", Kind.ELEMENTWISE),
    _row("Softsign", Kind.ELEMENTWISE),
    _row("Split", Kind.MOVE, keeps_ids=True),
    _row("Sqrt", Kind.ELEMENTWISE, float32=True),
    _row("Squeeze", Kind.VIEW),
    _row("Sub", Kind.ELEMENTWISE, scores=True, linear=True, modular=True),
    _row("Sum", Kind.ELEMENTWISE, linear=True),
    _row("Swish", Kind.ELEMENTWISE),
    _row("Tan", Kind.ELEMENTWISE),
    _row("Tanh", Kind.ELEMENTWISE),
    _row("ThresholdedRelu", Kind.ELEMENTWISE),
    _row("Tile", Kind.MOVE, keeps_ids=True),
    _row("TopK", Kind.SEARCH),
    _row("Transpose", Kind.MOVE, keeps_ids=True),
    _row("Trilu", Kind.OTHER),
    _row("Unsqueeze", Kind.VIEW),
    _row("Where", Kind.ELEMENTWISE, scores=True, keeps_ids=True, modular=True),
    _row("Xor", Kind.ELEMENTWISE),
)

OPERATORS = {row.name: row for row in _ROWS}
"""By name (`op_type` of a node)."""


def operator(name: str) -> Operator:
    """The row of an operator; one of `Kind.OTHER` where there is none."""
    return OPERATORS.get(name) or Operator(name, Kind.OTHER)
