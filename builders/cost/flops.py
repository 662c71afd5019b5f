"""FLOPs and bytes of a graph and its parts, as functions of the axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx

from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.sizes import Size, product

DATA_MOVEMENT = frozenset(
    "Cast Concat Constant ConstantOfShape Expand Flatten Gather GatherElements GatherND Identity OneHot Pad Range "
    "Reshape Shape Size Slice Split Squeeze Tile Transpose Unsqueeze".split()
)
"""Operators that compute nothing."""

PER_INPUT_ELEMENT = frozenset(
    "ArgMax ArgMin CumSum ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "TopK".split()
)
FLOPS_PER_ELEMENT = {"LayerNormalization": 7, "LogSoftmax": 4, "RMSNormalization": 5, "Softmax": 4}
"""Where one pass over the elements is not one operation each; every other operator counts 1 per output element."""

RECURRENT = frozenset(["GRU", "LSTM", "RNN"])
MATRIX_PRODUCTS = RECURRENT | frozenset(["Attention", "Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"])
"""Operators whose work exceeds the bytes they touch: never worth repeating to keep fewer bytes."""


class UncountedError(LookupError):
    """The FLOPs of the node are unknown."""


def flops_of_node(node: onnx.NodeProto, probe: Probe) -> Size:
    """The FLOPs of one run of a node: 2 for each multiply-add, 1 for each other operation on an element.

    Raises:
        UncountedError: an operator or a shape that is not known.
    """
    if node.op_type in DATA_MOVEMENT:
        return Size.of(0)
    output = _elements(node.output[0], probe)
    if node.op_type in ("MatMul", "Gemm"):
        transposed = any(entry.name == "transA" and entry.i for entry in node.attribute)
        return Size.of(2) * output * _shape(node.input[0], probe)[0 if transposed else -1]
    if node.op_type in RECURRENT:
        steps = _shape(node.input[0], probe)[:2]
        return Size.of(2) * product(steps) * (_elements(node.input[1], probe) + _elements(node.input[2], probe))
    if node.op_type == "Conv":
        return Size.of(2) * output * product(_shape(node.input[1], probe)[1:])
    if node.op_type in MATRIX_PRODUCTS:
        raise UncountedError(node.name)
    if node.op_type in PER_INPUT_ELEMENT:
        return _elements(node.input[0], probe)
    return Size.of(FLOPS_PER_ELEMENT.get(node.op_type, 1)) * output


def _elements(tensor: str, probe: Probe) -> Size:
    return product(_shape(tensor, probe))


def _shape(tensor: str, probe: Probe) -> tuple[Size, ...]:
    shape = probe.shape(tensor)
    if shape is None:
        raise UncountedError(tensor)
    return shape


def bytes_of_tensor(tensor: str, probe: Probe, sizes: Mapping[str, int]) -> float:
    """The bytes of a tensor at these sizes; infinite where they are unknown."""
    shape = probe.shape(tensor)
    return float("inf") if shape is None else product(shape).at(sizes) * probe.dtypes[tensor].itemsize


@dataclass(frozen=True)
class Flops:
    """The FLOPs of a set of nodes as a function of the axes; `uncounted` names the nodes that are not in it."""

    count: Size
    uncounted: tuple[str, ...] = ()

    @staticmethod
    def of(nodes: Iterable[onnx.NodeProto], probe: Probe) -> Flops:
        """The sum over nodes."""
        total, uncounted = Size.of(0), []
        for node in nodes:
            try:
                total = total + flops_of_node(node, probe)
            except UncountedError:
                uncounted.append(node.name)
        return Flops(total, tuple(uncounted))

    def at(self, sizes: Mapping[str, int]) -> int:
        """The FLOPs for one user at these sizes."""
        return self.count.at({BATCH: 1, **sizes})

    def one_by_one(self, sizes: Mapping[str, int], axis: str) -> int:
        """The FLOPs for one user in as many runs as the axis is long, each of size 1 along it."""
        return sizes[axis] * self.at({**sizes, axis: 1})


def weight_bytes(model: onnx.ModelProto) -> int:
    """The bytes of all weights of a graph."""
    return sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
