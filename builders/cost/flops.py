"""The FLOPs of nodes and the bytes of tensors, as functions of the sizes of the axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import onnx

from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.operators import Kind, operator
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.sizes import Size, product


class UncountedError(LookupError):
    """The work of a node cannot be counted: its product, or the shape of a tensor, is not known."""


def flops_of_node(node: onnx.NodeProto, probe: Probe) -> Size:
    """The FLOPs of one run of a node: 2 for each multiply-add, and for other operators as their rows say.

    Raises:
        UncountedError: the operator is a product without a formula here, or a shape is not known.
    """
    row = operator(node.op_type)
    if row.is_product:
        if node.op_type not in _FLOPS_OF_PRODUCTS:
            raise UncountedError(node.name)
        return _FLOPS_OF_PRODUCTS[node.op_type](node, probe)
    if not row.flops:
        return Size.of(0)
    of_input = row.kind in (Kind.REDUCTION, Kind.SEARCH)
    return Size.of(row.flops) * _elements(node.input[0] if of_input else node.output[0], probe)


def _of_matmul(node: onnx.NodeProto, probe: Probe) -> Size:
    """A multiply-add for each element of the output and each element of the contracted axis."""
    transposed = any(entry.name == "transA" and entry.i for entry in node.attribute)
    return Size.of(2) * _elements(node.output[0], probe) * _shape(node.input[0], probe)[0 if transposed else -1]


def _of_convolution(node: onnx.NodeProto, probe: Probe) -> Size:
    """A multiply-add for each element of the output and each weight of one filter `[out, in / groups, kernel...]`."""
    return Size.of(2) * _elements(node.output[0], probe) * product(_shape(node.input[1], probe)[1:])


def _of_recurrence(node: onnx.NodeProto, probe: Probe) -> Size:
    """The two products of each step and user: input and state before it, `[steps, batch, in]`, with their weights."""
    steps = _shape(node.input[0], probe)[:2]
    return Size.of(2) * product(steps) * (_elements(node.input[1], probe) + _elements(node.input[2], probe))


def _of_einsum(node: onnx.NodeProto, probe: Probe) -> Size:
    """A multiplication, an addition, or both for each combination of indices; of two operands at most, no ellipsis."""
    equation = next(entry.s.decode() for entry in node.attribute if entry.name == "equation").replace(" ", "")
    terms, arrow, output = equation.partition("->")
    operands = terms.split(",")
    if not arrow or "." in equation or len(operands) > 2:
        raise UncountedError(node.name)
    sizes: dict[str, Size] = {}
    for letters, name in zip(operands, node.input, strict=True):
        sizes.update(zip(letters, _shape(name, probe), strict=True))
    multiplies, adds = len(operands) - 1, int(sizes.keys() > set(output))
    return Size.of(multiplies + adds) * product(list(sizes.values()))


_FLOPS_OF_PRODUCTS: dict[str, Callable[[onnx.NodeProto, Probe], Size]] = {
    "Conv": _of_convolution,
    "Einsum": _of_einsum,
    "GRU": _of_recurrence,
    "Gemm": _of_matmul,
    "LSTM": _of_recurrence,
    "MatMul": _of_matmul,
    "RNN": _of_recurrence,
}


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
    """The FLOPs of a set of nodes, as a function of the batch and the axes."""

    count: Size
    uncounted: tuple[str, ...] = ()
    """Names of the nodes whose FLOPs are not known, and are not in `count`."""

    @staticmethod
    def of(nodes: Iterable[onnx.NodeProto], probe: Probe) -> Flops:
        """The FLOPs of all nodes together."""
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
        """The FLOPs for one user in `sizes[axis]` runs of size 1 along the axis."""
        return sizes[axis] * self.at({**sizes, axis: 1})


def weight_bytes(model: onnx.ModelProto) -> int:
    """The bytes of all weights of a graph."""
    return sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
