"""Makes one part of a graph a graph of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx_graphsurgeon as gs

from cleave.builders.cut.labels import Labels
from cleave.builders.errors import BuilderError
from cleave.builders.onnx_graph.batch_axis import BatchAxis, batch_axis_of
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.size_nodes import AxisSource, MissingAxisError, SizeNodes, reshape_target
from cleave.builders.onnx_graph.sizes import Size


class ExtractError(BuilderError):
    """A part needs the size of an axis that none of its inputs has."""


def extract_graph(
    model: onnx.ModelProto,
    labels: Labels,
    probe: Probe,
    inputs: Sequence[str],
    outputs: Mapping[str, str],
    renamed: Mapping[str, str],
    name: str,
) -> onnx.ModelProto:
    """The nodes of `model` that lead from `inputs` to `outputs`.

    Sizes are not taken along from where `model` reads them but read anew from the inputs of this part, so that a
    part never depends on another's tensors for their shape.

    Args:
        inputs: tensors of `model` that are given to this part, with the batch first.
        outputs: tensors of `model` to compute, and the name of each in the part, where it has the batch first.
        renamed: the name in the part of inputs that are called otherwise there.
        name: of the graph.

    Raises:
        ExtractError: the size of an axis is needed that no input has.
    """
    return _Extraction(model, labels, probe, name).run(inputs, outputs, renamed)


class _Extraction:
    def __init__(self, model: onnx.ModelProto, labels: Labels, probe: Probe, name: str) -> None:
        self.model = model
        self.source = gs.import_onnx(model)
        self.labels = labels
        self.probe = probe
        self.part = gs.Graph(opset=self.source.opset, name=name, import_domains=self.source.import_domains)
        self.made: dict[str, gs.Tensor] = {}
        self.producers = {tensor.name: node for node in self.source.nodes for tensor in node.outputs}

    def run(self, inputs: Sequence[str], outputs: Mapping[str, str], renamed: Mapping[str, str]) -> onnx.ModelProto:
        self.batch_axes = {name: self._batch_axis(name) for name in (*inputs, *outputs)}
        for name in inputs:
            dims = self.batch_axes[name].batch_first
            variable = gs.Variable(renamed.get(name, name), self.probe.dtypes[name], _symbols(dims))
            self.part.inputs.append(variable)
            self.made[name] = variable
        self.size_nodes = SizeNodes(self.part, self._axis_sources(inputs), "sizes")
        for name in inputs:
            self.made[name] = self._from_batch_first(self.made[name], self.batch_axes[name])
        needed = self._needed(outputs)
        for node in self.source.nodes:
            if id(node) in needed:
                self._copy(node)
        for name, renamed_output in outputs.items():
            self.part.outputs.append(self._output(name, renamed_output))
        self.part.cleanup(remove_unused_graph_inputs=False).toposort()
        model: onnx.ModelProto = gs.export_onnx(self.part)
        model.ir_version = self.model.ir_version
        model.producer_name = "cleave"
        onnx.checker.check_model(model)
        return model

    def _needed(self, outputs: Mapping[str, str]) -> set[int]:
        """The identities of the nodes to copy."""
        needed: set[int] = set()
        open_names = list(outputs)
        while open_names:
            name = open_names.pop()
            node = self.producers.get(name)
            if name in self.made or node is None or self._is_size(name) or id(node) in needed:
                continue
            needed.add(id(node))
            open_names += [tensor.name for tensor in node.inputs]
        return needed

    def _copy(self, node: gs.Node) -> None:
        inputs = [self._operand(tensor) for tensor in node.inputs]
        attrs = dict(node.attrs)
        if node.op == "Reshape" and (target := self._reshape_target(node)) is not None:
            inputs[1] = target
            attrs["allowzero"] = 0
        results = [gs.Variable(tensor.name, tensor.dtype) for tensor in node.outputs]
        self.made.update({tensor.name: result for tensor, result in zip(node.outputs, results, strict=True)})
        self.part.nodes.append(gs.Node(node.op, node.name, attrs, inputs, results, node.domain))

    def _operand(self, tensor: gs.Tensor) -> gs.Tensor:
        if tensor.name in self.made or not tensor.name:
            return self.made.get(tensor.name, tensor)
        if isinstance(tensor, gs.Constant):
            self.made[tensor.name] = gs.Constant(tensor.name, tensor.values)
        elif self._is_size(tensor.name):
            self.made[tensor.name] = self._size(tensor.name)
        return self.made[tensor.name]

    def _is_size(self, name: str) -> bool:
        """Whether a tensor holds nothing but sizes of axes, which are read anew."""
        return name in self.producers and name in self.probe.values and not self.labels.of(name).roles

    def _size(self, name: str) -> gs.Tensor:
        values = self.probe.values[name]
        dtype = self.probe.dtypes[name]
        try:
            if self.probe.dims[name]:
                return self.size_nodes.vector(values, dtype)
            return self.size_nodes.scalar(values[0], dtype)
        except MissingAxisError as error:
            raise self._missing(str(error), name) from None

    def _reshape_target(self, node: gs.Node) -> gs.Tensor | None:
        """A target that reads as few sizes as possible at run time; None where the shapes are not known."""
        given, wanted = (self.probe.shape(tensor.name) for tensor in (node.inputs[0], node.outputs[0]))
        if given is None or wanted is None:
            return None
        try:
            return self.size_nodes.vector(reshape_target(given, wanted))
        except MissingAxisError as error:
            raise self._missing(str(error), node.name) from None

    def _missing(self, axis: str, where: str) -> ExtractError:
        given = ", ".join(tensor.name for tensor in self.part.inputs)
        return ExtractError(
            f"{self.part.name}: {where} reads the size of axis {axis!r}, expected one of its inputs ({given}) to have "
            "that axis; if a score depends on that size, padding changes it: use a count of real rows instead; if a "
            "shape does, take it from a tensor that is read there"
        )

    def _output(self, name: str, renamed: str) -> gs.Variable:
        """An output under its name in the part. An input that is an output, too, gets a node between the two."""
        made = self._to_batch_first(self.made[name], self.batch_axes[name])
        dtype, symbols = self.probe.dtypes[name], _symbols(self.batch_axes[name].batch_first)
        if any(made is tensor for tensor in self.part.inputs) or any(made is tensor for tensor in self.part.outputs):
            output = gs.Variable(renamed, dtype, symbols)
            self.part.nodes.append(gs.Node("Identity", f"pass/{renamed}", {}, [made], [output]))
            return output
        made.name, made.dtype, made.shape = renamed, dtype, symbols
        return made

    def _batch_axis(self, name: str) -> BatchAxis:
        axis = batch_axis_of(self.probe.shape(name) or ())
        assert axis is not None
        return axis

    def _to_batch_first(self, tensor: gs.Tensor, axis: BatchAxis) -> gs.Tensor:
        unfolded = self._reshaped(tensor, axis.dims, axis.unfolded)
        return self._transposed(unfolded, axis.to_first)

    def _from_batch_first(self, tensor: gs.Tensor, axis: BatchAxis) -> gs.Tensor:
        unfolded = self._transposed(tensor, axis.from_first)
        return self._reshaped(unfolded, axis.unfolded, axis.dims)

    def _reshaped(self, tensor: gs.Tensor, given: Sequence[Size], wanted: Sequence[Size]) -> gs.Tensor:
        if given == wanted:
            return tensor
        try:
            target = self.size_nodes.vector(reshape_target(given, wanted))
        except MissingAxisError as error:
            raise self._missing(str(error), tensor.name) from None
        return self._new("Reshape", [tensor, target], {"allowzero": 0})

    def _transposed(self, tensor: gs.Tensor, perm: list[int]) -> gs.Tensor:
        return tensor if perm == sorted(perm) else self._new("Transpose", [tensor], {"perm": perm})

    def _new(self, op: str, inputs: list[gs.Tensor], attrs: dict[str, object]) -> gs.Variable:
        name = f"layout/{inputs[0].name}/{op}"
        output = gs.Variable(name, inputs[0].dtype)
        self.part.nodes.append(gs.Node(op, name, attrs, inputs, [output]))
        return output

    def _axis_sources(self, inputs: Sequence[str]) -> dict[str, AxisSource]:
        """A dimension that is the axis itself where there is one, else one such as `history + 1`."""
        sources: dict[str, AxisSource] = {}
        for name in inputs:
            for place, size in enumerate(self.batch_axes[name].batch_first):
                if size.linear is None:
                    continue
                axis, factor, constant = size.linear
                source = AxisSource(self.made[name], place, factor, constant)
                if axis not in sources or (source.is_plain and not sources[axis].is_plain):
                    sources[axis] = source
        return sources


def _symbols(dims: Sequence[Size]) -> list[int | str]:
    """The shape as ONNX writes it: numbers and names."""
    return [size.symbol for size in dims]
