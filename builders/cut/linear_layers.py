"""Takes linear layers of concatenated user and candidate features apart.

W [a ; b ; a - b ; a * b] = (W1 + W3) a + (W2 - W3) b + W4 (a * b): what such a layer computes of the user's features
runs once per user, and what it computes of a candidate's once per candidate. What is left for the pair is the product.
The attention unit of DIN (Zhou et al., 2018, section 4.3) and the first layer of most click models are of this form.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from cleave.builders.cost.flops import Flops
from cleave.builders.cut.labels import Label, Labels
from cleave.builders.cut.linear_forms import Coefficients, Form, LinearForms, NoFormError, Term
from cleave.builders.cut.min_cut import FLOPS_PER_KEPT_BYTE
from cleave.builders.names import BATCH
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.sizes import Size, product

SMALLEST_SHARE = 0.1
"""Of the FLOPs of a request: what is spared less than that is not given a larger summary."""


def split_linear_layers(
    model: onnx.ModelProto, probe: Probe, labels: Labels, sizes: Mapping[str, int]
) -> onnx.ModelProto:
    """An equal graph in which a linear layer has a product for the features of each role.

    A layer is taken apart only where fewer FLOPs are then left for each request, and where these are worth the bytes
    that are kept for a user. The graph stays as it is where all layers together spare a request too little.

    Args:
        probe: sizes of the tensors of `model`.
        labels: roles of the tensors of `model`.
        sizes: the size of every axis by name, at which FLOPs and bytes are counted.
    """
    graph = gs.import_onnx(model)
    splitter = _Splitter(graph, probe, labels, sizes)
    plans = [plan for node in graph.nodes if (plan := splitter.plan(node)) is not None]
    of_request = [node for node in model.graph.node if not labels.is_only("user", node.output[0])]
    if sum(plan.saved for plan in plans) <= SMALLEST_SHARE * Flops.of(of_request, probe).at(sizes):
        return model
    for plan in plans:
        splitter.replace(plan)
    graph.cleanup().toposort()
    result: onnx.ModelProto = gs.export_onnx(graph)
    result.ir_version = model.ir_version
    return result


@dataclass(frozen=True)
class _Layer:
    """A product of `given` [..., width] with weights [width, units], plus a bias [units], as `output`."""

    nodes: tuple[gs.Node, ...]
    """All of them, in the order of the graph."""
    given: gs.Tensor
    weights: Coefficients
    bias: Coefficients

    @property
    def output(self) -> gs.Tensor:
        return self.nodes[-1].outputs[0]


@dataclass
class _Group:
    """The terms of equal shapes and roles, which one product reads side by side."""

    label: Label
    rows: tuple[Size, ...]
    """The shape of the terms without their last axis."""
    terms: list[Term]
    weights: list[Coefficients]
    """Of each term [its width, units]."""

    def add(self, term: Term, weights: Coefficients) -> None:
        """Add a term; a tensor that is there already gets the sum of the weights."""
        for place, other in enumerate(self.terms):
            if other.tensor is term.tensor and other.views == term.views:
                self.weights[place] = self.weights[place] + weights
                return
        self.terms.append(term)
        self.weights.append(weights)

    @property
    def width(self) -> int:
        return sum(len(weights) for weights in self.weights)


@dataclass(frozen=True)
class _Plan:
    """What replaces a layer."""

    layer: _Layer
    groups: tuple[_Group, ...]
    bias: Coefficients
    saved: int
    """The FLOPs that a request is spared."""


class _Splitter:
    def __init__(self, graph: gs.Graph, probe: Probe, labels: Labels, sizes: Mapping[str, int]) -> None:
        self.graph = graph
        self.labels = labels
        self.sizes = {BATCH: 1, **sizes}
        self.forms = LinearForms(probe)
        self.outputs = {id(tensor) for tensor in graph.outputs}
        self.viewed: dict[tuple[str, ...], gs.Tensor] = {}

    def plan(self, node: gs.Node) -> _Plan | None:
        """How to take the layer apart that a product begins; None where there is none, or where it does not pay."""
        layer = self._layer(node)
        if layer is None or self.labels.is_only("user", layer.output.name):
            return None
        try:
            form = self.forms.of(layer.given)
            shape = self.forms.shape(node.outputs[0])
        except NoFormError:
            return None
        groups = self._groups(form, layer.weights)
        if not groups or _broadcast([group.rows for group in groups]) != shape[:-1]:
            return None  # a copy would have to be made of the sum
        saved = self._saved(groups, layer, shape)
        if saved <= FLOPS_PER_KEPT_BYTE * self._kept_bytes(groups, layer):
            return None
        self.forms.whole.add(layer.output.name)
        return _Plan(layer, tuple(groups), layer.bias + form.constant @ layer.weights, saved)

    # Which layers there are

    def _layer(self, node: gs.Node) -> _Layer | None:
        if node.op not in ("MatMul", "Gemm") or not isinstance(node.inputs[1], gs.Constant):
            return None
        weights = np.asarray(node.inputs[1].values)
        if weights.ndim != 2 or weights.dtype != np.float32:
            return None
        weights = weights.astype(np.float64)
        if node.op == "Gemm":
            return self._gemm(node, weights)
        units = weights.shape[1]
        bias = np.zeros(units)
        readers = node.outputs[0].outputs
        if len(readers) == 1 and readers[0].op == "Add" and id(node.outputs[0]) not in self.outputs:
            other = next((tensor for tensor in readers[0].inputs if tensor is not node.outputs[0]), None)
            if isinstance(other, gs.Constant) and np.shape(other.values) in ((units,), (1,), ()):
                bias = bias + np.asarray(other.values, np.float64)
                return _Layer((node, readers[0]), node.inputs[0], weights, bias)
        return _Layer((node,), node.inputs[0], weights, bias)

    def _gemm(self, node: gs.Node, weights: Coefficients) -> _Layer | None:
        attrs = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, **node.attrs}
        biases = node.inputs[2:]
        if (attrs["alpha"], attrs["beta"], attrs["transA"]) != (1.0, 1.0, 0):
            return None
        if any(not isinstance(bias, gs.Constant) or np.ndim(bias.values) > 1 for bias in biases):
            return None
        weights = weights.T if attrs["transB"] else weights
        bias = sum((np.asarray(bias.values, np.float64) for bias in biases), np.zeros(weights.shape[1]))
        return _Layer((node,), node.inputs[0], weights, bias)

    # What they are made of

    def _groups(self, form: Form, weights: Coefficients) -> list[_Group]:
        """The terms by roles and shapes: the user's first, those of a role together, the smaller ones first."""
        groups: dict[tuple[Label, tuple[Size, ...]], _Group] = {}
        for term in form.terms:
            label, rows = self.labels.of(term.tensor.name), term.dims[:-1]
            group = groups.setdefault((label, rows), _Group(label, rows, [], []))
            group.add(term, term.scale[:, None] * weights[term.offset : term.offset + len(term.scale)])
        return sorted(
            groups.values(),
            key=lambda group: (
                len(group.label.roles),
                not self._is_users(group),
                sorted(group.label.roles),
                self._elements(group.rows),
            ),
        )

    def _is_users(self, group: _Group) -> bool:
        return self.labels.roles_in_effect(group.label) == {"user"}

    def _elements(self, shape: Sequence[Size]) -> int:
        return product(shape).at(self.sizes)

    def _saved(self, groups: Sequence[_Group], layer: _Layer, shape: tuple[Size, ...]) -> int:
        """The FLOPs that a request is spared: those of the layer, less those of its share of the products, and of the
        sums."""
        width, units = layer.weights.shape
        of_request = [group for group in groups if not self._is_users(group)]
        products = sum(2 * self._elements(group.rows) * group.width * units for group in of_request)
        sums = self._elements(shape) * (len(groups) - 1)
        return 2 * self._elements(shape) * width - products - sums

    def _kept_bytes(self, groups: Sequence[_Group], layer: _Layer) -> int:
        """The bytes of what the layer computes of the user alone."""
        of_user = [group.rows for group in groups if self._is_users(group)]
        units = layer.weights.shape[1]
        return self._elements(_broadcast(of_user)) * units * np.dtype(np.float32).itemsize if of_user else 0

    # What replaces them

    def replace(self, plan: _Plan) -> None:
        """Compute the output, under its name, as the sum of a product for each group. The bias is added to the first,
        which is the smallest of its role."""
        layer, groups, bias = plan.layer, plan.groups, plan.bias
        name, output = layer.nodes[0].name, layer.output
        for node in layer.nodes:
            node.outputs.clear()
        by_roles = itertools.groupby(enumerate(groups), lambda entry: entry[1].label.roles)
        sums: list[gs.Tensor] = []
        for _, entries in by_roles:
            products = [self._product(group, f"{name}/term_{place}") for place, group in entries]
            if not sums and bias.any():
                products[0] = self._node("Add", f"{name}/bias", [products[0], _constant(f"{name}/bias/values", bias)])
            sums.append(self._sum(products, f"{name}/sum_{len(sums)}"))
        total = self._sum(sums, f"{name}/sum")
        last = total.inputs[0]
        last.outputs = [output]

    def _product(self, group: _Group, name: str) -> gs.Tensor:
        tensors = [self._view(term) for term in group.terms]
        given = tensors[0] if len(tensors) == 1 else self._node("Concat", f"{name}/features", tensors, {"axis": -1})
        weights = _constant(f"{name}/weights", np.concatenate(group.weights))
        return self._node("MatMul", name, [given, weights])

    def _view(self, term: Term) -> gs.Tensor:
        """The tensor of a term after its views, which are made once, and not where the graph has them already."""
        tensor = term.tensor
        key: tuple[str, ...] = (tensor.name,)
        for view in term.views:
            key = (*key, view.name)
            if view.inputs[0] is tensor:
                self.viewed[key] = view.outputs[0]
            elif key not in self.viewed:
                name = "/".join((view.name, *key[:-1]))
                self.viewed[key] = self._node(view.op, name, [tensor, *view.inputs[1:]], dict(view.attrs))
            tensor = self.viewed[key]
        return tensor

    def _sum(self, tensors: Sequence[gs.Tensor], name: str) -> gs.Tensor:
        total = tensors[0]
        for place, tensor in enumerate(tensors[1:]):
            total = self._node("Add", f"{name}/{place}", [total, tensor])
        return total

    def _node(
        self, op: str, name: str, inputs: Sequence[gs.Tensor], attrs: Mapping[str, object] | None = None
    ) -> gs.Tensor:
        output = gs.Variable(name, np.dtype(np.float32))
        self.graph.nodes.append(gs.Node(op, name, dict(attrs or {}), list(inputs), [output]))
        return output


def _constant(name: str, values: Coefficients) -> gs.Constant:
    return gs.Constant(name, values.astype(np.float32))


def _broadcast(shapes: Sequence[tuple[Size, ...]]) -> tuple[Size, ...]:
    """The shape of a sum: of the sizes that meet along an axis, the one that is not 1."""
    rank = max(map(len, shapes), default=0)
    aligned = [(Size.of(1),) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((size for size in sizes if size != Size.of(1)), sizes[0]) for sizes in zip(*aligned, strict=True))
