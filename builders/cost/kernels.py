"""The kernels that an engine runs for a set of nodes, with the FLOPs and bytes of each as functions of the axes.

An engine does not run a node at a time: what only renames data costs nothing, what depends on weights alone is computed
when the engine is built, and an operator on single elements runs within the kernel that makes its input, which saves
writing and reading it. Attention, two products with a softmax between, is one kernel where an engine has one, which
never writes the scores to memory; elsewhere it runs as the graph spells it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from cleave.builders.cost import flops as cost
from cleave.builders.onnx_graph.operators import Kind, operator
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.sizes import Size, product


@dataclass(frozen=True)
class Kernel:
    """One kernel: all sizes are functions of the batch and the axes."""

    nodes: tuple[str, ...]
    matrix_flops: Size
    """Of matrix products, which engines give to units of their own."""
    vector_flops: Size
    """Of everything else."""
    floats: Size
    """Elements of float32 tensors read and written: 4 bytes each, 2 in half precision."""
    other_bytes: Size
    """Bytes of tensors of any other type read and written."""
    weights: int
    """Elements of the weights read, whatever the sizes; the rows that are looked up in a table count as `floats`."""

    def activation_bytes(self, sizes: Mapping[str, int], float_bytes: int) -> int:
        """The bytes of one run that are read and written besides weights."""
        return float_bytes * self.floats.at(sizes) + self.other_bytes.at(sizes)


@dataclass(frozen=True)
class KernelSet:
    """The kernels of a set of nodes; `uncounted` names the nodes of unknown work, which are in none."""

    spelled_out: tuple[Kernel, ...]
    """As the graph has it."""
    with_attention: tuple[Kernel, ...]
    """With one kernel for each attention; the others are the same."""
    uncounted: tuple[str, ...]
    weight_bytes: int
    """Of all its weights, tables included, in the type that the graph has them in."""


def kernels_from_nodes(
    nodes: Sequence[onnx.NodeProto], outputs: Iterable[str], model: onnx.ModelProto, probe: Probe
) -> KernelSet:
    """The kernels of some nodes of `model`, in graph order.

    Args:
        outputs: tensors that are needed besides what these nodes read of each other.
        probe: the sizes of the tensors of `model`.
    """
    return _Kernels(nodes, outputs, model, probe).kernel_set()


class _Kernels:
    def __init__(
        self, nodes: Sequence[onnx.NodeProto], outputs: Iterable[str], model: onnx.ModelProto, probe: Probe
    ) -> None:
        self.probe = probe
        self.same_as: dict[str, str] = {}
        """The tensor whose data another one is."""
        self.stored = {tensor.name for tensor in model.graph.initializer}
        self.known = self.stored | set(probe.values)
        """Tensors that no request changes, and sizes."""
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
        """The nodes of each kernel."""
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
        counted, uncounted = [], []
        for nodes in groups:
            try:
                counted.append(self._kernel(nodes))
            except cost.UncountedError:
                uncounted += [node.name for node in nodes]
        return tuple(counted), tuple(uncounted)

    def _is_free(self, node: onnx.NodeProto) -> bool:
        if all(not name or name in self.known for name in node.input):
            self.known.update(node.output)
            return True
        if operator(node.op_type).is_view:
            self.same_as[node.output[0]] = self._data(node.input[0])
            return True
        return all(name in self.known for name in node.output)

    def _data(self, name: str) -> str:
        return self.same_as.get(name, name)

    def _read(self, node: onnx.NodeProto) -> list[str]:
        """The tensors whose data a node reads, each once."""
        return list(dict.fromkeys(self._data(name) for name in node.input if name and name not in self.probe.values))

    def _joins(self, node: onnx.NodeProto, name: str, kernel_of: Mapping[str, list[onnx.NodeProto]]) -> bool:
        """Whether a node runs within the kernel that makes one of its inputs, which then nobody else may read."""
        return operator(node.op_type).kind is Kind.ELEMENTWISE and self._is_handed_on(node, name, kernel_of)

    def _joins_attention(self, node: onnx.NodeProto, name: str, kernel_of: Mapping[str, list[onnx.NodeProto]]) -> bool:
        """As `_joins`; a softmax, too, joins the product that makes its weights, and their product with values both."""
        made_by = [other.op_type for other in kernel_of.get(name, ())]
        if node.op_type == "Softmax" and "MatMul" in made_by:
            return self._is_handed_on(node, name, kernel_of)
        if node.op_type == "MatMul" and made_by[-1:] == ["Softmax"] and "MatMul" in made_by:
            return self._data(node.input[0]) == name and self._is_kept_inside(name)
        return self._joins(node, name, kernel_of)

    def _is_handed_on(self, node: onnx.NodeProto, name: str, kernel_of: Mapping[str, list[onnx.NodeProto]]) -> bool:
        """Whether what a node makes has an element for each of this input, which is some kernel's and read once."""
        made, read = self.probe.shape(node.output[0]), self.probe.shape(name)
        same = made is not None and read is not None and product(made) == product(read)
        return same and name in kernel_of and self._is_kept_inside(name)

    def _is_kept_inside(self, name: str) -> bool:
        return name not in self.outputs and len(self.readers[name]) == 1

    def _kernel(self, nodes: Sequence[onnx.NodeProto]) -> Kernel:
        matrix, vector = Size.of(0), Size.of(0)
        for node in nodes:
            flops = cost.flops_of_node(node, self.probe)
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
        """Every tensor that is read from memory or written to it, with the number of its elements that are."""
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
            raise cost.UncountedError(name)
        return product(shape)
