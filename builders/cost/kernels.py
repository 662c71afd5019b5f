"""The kernels that an engine runs for a set of nodes, with the FLOPs and bytes of each as functions of the axes.

An engine does not run one kernel per node. A node that gives data another shape costs nothing. A node that depends on
weights alone is computed when the engine is built. An elementwise operator runs within the kernel that makes its input,
which saves writing that input to memory and reading it again. Where an engine has a kernel for attention (two matrix
products with a softmax between), that kernel never writes the scores to memory; where it has none, attention runs as
the graph spells it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from cleave.builders.cost.flops import UncountedError, flops_of_node
from cleave.builders.onnx_graph.operators import Kind, operator
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.sizes import Size, product


@dataclass(frozen=True)
class Kernel:
    """One kernel; sizes are functions of the batch and the axes."""

    nodes: tuple[str, ...]
    """The names of the nodes that it computes."""
    matrix_flops: Size
    """The FLOPs of matrix products, which processors compute in units of their own."""
    vector_flops: Size
    """The FLOPs of everything else."""
    floats: Size
    """The number of elements of float32 tensors that are read or written: 4 bytes each, 2 in half precision."""
    other_bytes: Size
    """The bytes of tensors of other types that are read or written."""
    weights: int
    """The number of elements of weights that are read; rows that are looked up in a table count as `floats`."""

    def activation_bytes(self, sizes: Mapping[str, int], float_bytes: int) -> int:
        """The bytes that one run reads and writes besides weights."""
        return float_bytes * self.floats.at(sizes) + self.other_bytes.at(sizes)


@dataclass(frozen=True)
class KernelSet:
    """The kernels of a set of nodes."""

    spelled_out: tuple[Kernel, ...]
    """On an engine without a kernel for attention."""
    with_attention: tuple[Kernel, ...]
    """On an engine with one: each attention is one kernel, the other kernels are the same."""
    uncounted: tuple[str, ...]
    """Names of the nodes whose work is not known; no kernel computes them."""
    weight_bytes: int
    """The bytes of all weights, tables included, in the types of the graph."""


def kernels_from_nodes(
    nodes: Sequence[onnx.NodeProto], outputs: Iterable[str], model: onnx.ModelProto, probe: Probe
) -> KernelSet:
    """The kernels of some nodes of `model`, in graph order.

    Args:
        outputs: names of the tensors that are read by others than these nodes.
        probe: the sizes of the tensors of `model`.
    """
    return _Kernels(nodes, outputs, model, probe).kernel_set()


class _Kernels:
    """Groups nodes into kernels.

    A node that depends on weights and sizes alone is in no kernel, nor is a view, for which the tensor that it is a
    view of stands.
    """

    def __init__(
        self, nodes: Sequence[onnx.NodeProto], outputs: Iterable[str], model: onnx.ModelProto, probe: Probe
    ) -> None:
        self.probe = probe
        self.same_as: dict[str, str] = {}
        """From each view to the tensor that it is a view of."""
        self.stored = {tensor.name for tensor in model.graph.initializer}
        self.known = self.stored | set(probe.values)
        """Weights, what is computed from weights alone, and sizes."""
        self.nodes = [node for node in nodes if not self._is_free(node)]
        self.readers: dict[str, list[int]] = {}
        for node in self.nodes:
            for name in self._read(node):
                self.readers.setdefault(name, []).append(id(node))
        self.outputs = {self._data(name) for name in outputs}

    def kernel_set(self) -> KernelSet:
        spelled_out, uncounted = self._counted(self._groups(attention=False))
        with_attention, _ = self._counted(self._groups(attention=True))
        read = {name for node in self.nodes for name in node.input if name in self.stored}
        weight_bytes = sum(self._elements(name).at({}) * self.probe.dtypes[name].itemsize for name in read)
        return KernelSet(spelled_out, with_attention, uncounted, weight_bytes)

    def _groups(self, attention: bool) -> list[list[onnx.NodeProto]]:
        """The nodes of each kernel, with a kernel for each attention or without."""
        joins = self._joins_attention if attention else self._joins
        kernel_of: dict[str, list[onnx.NodeProto]] = {}
        kernels: list[list[onnx.NodeProto]] = []
        for node in self.nodes:
            kernel = next((kernel_of[name] for name in self._read(node) if joins(node, name, kernel_of)), None)
            if kernel is None:
                kernels.append(kernel := [])
            kernel.append(node)
            kernel_of.update(dict.fromkeys(node.output, kernel))
        return kernels

    def _counted(self, groups: list[list[onnx.NodeProto]]) -> tuple[tuple[Kernel, ...], tuple[str, ...]]:
        """The kernels of groups of nodes, and the names of the nodes of groups whose work is not known."""
        counted, uncounted = [], []
        for nodes in groups:
            try:
                counted.append(self._kernel(nodes))
            except UncountedError:
                uncounted += [node.name for node in nodes]
        return tuple(counted), tuple(uncounted)

    def _is_free(self, node: onnx.NodeProto) -> bool:
        """Whether no kernel computes a node, in graph order; remembers what that says of its outputs."""
        if all(not name or name in self.known for name in node.input):
            self.known.update(node.output)
            return True
        if operator(node.op_type).is_view:
            self.same_as[node.output[0]] = self._data(node.input[0])
            return True
        return all(name in self.known for name in node.output)

    def _data(self, name: str) -> str:
        """The tensor that a view is of; any other tensor itself."""
        return self.same_as.get(name, name)

    def _read(self, node: onnx.NodeProto) -> list[str]:
        """The tensors whose data a node reads, each once; views are replaced by what they are views of."""
        return list(dict.fromkeys(self._data(name) for name in node.input if name and name not in self.probe.values))

    def _joins(self, node: onnx.NodeProto, name: str, kernel_of: Mapping[str, list[onnx.NodeProto]]) -> bool:
        """Whether a node runs within the kernel that makes its input `name`."""
        return operator(node.op_type).kind is Kind.ELEMENTWISE and self._is_handed_on(node, name, kernel_of)

    def _joins_attention(self, node: onnx.NodeProto, name: str, kernel_of: Mapping[str, list[onnx.NodeProto]]) -> bool:
        """The same on an engine with a kernel for attention.

        There a softmax joins the matrix product of queries and keys, and both are joined by the matrix product that
        reads the softmax on its left.
        """
        made_by = [other.op_type for other in kernel_of.get(name, ())]
        if node.op_type == "Softmax" and "MatMul" in made_by:
            return self._is_handed_on(node, name, kernel_of)
        if node.op_type == "MatMul" and made_by[-1:] == ["Softmax"] and "MatMul" in made_by:
            return self._data(node.input[0]) == name and self._is_kept_inside(name)
        return self._joins(node, name, kernel_of)

    def _is_handed_on(self, node: onnx.NodeProto, name: str, kernel_of: Mapping[str, list[onnx.NodeProto]]) -> bool:
        """Whether a kernel makes the input `name` for this node alone, and the node's output has as many elements."""
        made, read = self.probe.shape(node.output[0]), self.probe.shape(name)
        same = made is not None and read is not None and product(made) == product(read)
        return same and name in kernel_of and self._is_kept_inside(name)

    def _is_kept_inside(self, name: str) -> bool:
        """Whether a tensor has one reader, and none outside of the nodes, so that it need not be written to memory."""
        return name not in self.outputs and len(self.readers[name]) == 1

    def _kernel(self, nodes: Sequence[onnx.NodeProto]) -> Kernel:
        matrix, vector = Size.of(0), Size.of(0)
        for node in nodes:
            flops = flops_of_node(node, self.probe)
            if operator(node.op_type).is_product:
                matrix = matrix + flops
            else:
                vector = vector + flops
        floats, other, weights = Size.of(0), Size.of(0), 0
        for name, elements in self._traffic(nodes):
            if self.probe.dtypes[name] != np.float32:
                other = other + elements * Size.of(self.probe.dtypes[name].itemsize)
            elif name in self.stored and elements.constant is not None:
                weights += elements.constant
            else:
                floats = floats + elements
        return Kernel(tuple(node.name for node in nodes), matrix, vector, floats, other, weights)

    def _traffic(self, nodes: Sequence[onnx.NodeProto]) -> list[tuple[str, Size]]:
        """The tensors that a kernel reads from memory or writes to it, each with the number of elements."""
        inside = {name for node in nodes for name in node.output}
        read: dict[str, Size] = {}
        for node in nodes:
            for place, name in enumerate(self._read(node)):
                if name not in inside:
                    few = operator(node.op_type).reads_part and place == 0
                    read[name] = self._elements(node.output[0] if few else name)
        here = {id(node) for node in nodes}
        written = [name for name in inside if name in self.outputs or set(self.readers.get(name, ())) - here]
        return [*read.items(), *((name, self._elements(name)) for name in written)]

    def _elements(self, name: str) -> Size:
        shape = self.probe.shape(name)
        if shape is None:
            raise UncountedError(name)
        return product(shape)
