"""Writes a tensor as a linear function of other tensors: what a concatenation, a sum or a scaled tensor is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.sizes import Size

Coefficients = NDArray[np.float64]

NARROWEST_SUM = 4
"""Columns of a sum that is taken apart. A sum of fewer is a feature in itself, as the time between two events is: its
operands may be so much larger than it is that float32 has no digits left for their difference."""


class NoFormError(Exception):
    """The tensor is no linear function of others, as far as is known here."""


@dataclass(frozen=True)
class Term:
    """`tensor` [..., width] times `scale` [width]: a share of the columns of a form from `offset` on."""

    tensor: gs.Tensor
    views: tuple[gs.Node, ...]
    """Nodes that are to be applied to the tensor first, in this order; they leave the last axis alone."""
    dims: tuple[Size, ...]
    """The shape after the views."""
    offset: int
    scale: Coefficients


@dataclass(frozen=True)
class Form:
    """A tensor [..., width] as the sum of terms, which are broadcast, and of a constant [width]."""

    terms: tuple[Term, ...]
    constant: Coefficients

    @property
    def width(self) -> int:
        return len(self.constant)

    def scaled(self, factor: Coefficients) -> Form:
        """Each column times its factor [width]."""
        return Form(
            tuple(
                Term(term.tensor, term.views, term.dims, term.offset, term.scale * _columns(factor, term))
                for term in self.terms
            ),
            self.constant * factor,
        )

    def plus(self, other: Form) -> Form:
        return Form(self.terms + other.terms, self.constant + other.constant)

    def beside(self, other: Form) -> Form:
        """The columns of this form, and behind them those of another."""
        moved = (Term(term.tensor, term.views, term.dims, term.offset + self.width, term.scale) for term in other.terms)
        return Form((*self.terms, *moved), np.concatenate([self.constant, other.constant]))

    def viewed(self, view: gs.Node, rank: int, change: Callable[[tuple[Size, ...]], tuple[Size, ...]]) -> Form:
        """The form after a view of tensors of this rank, which changes their shapes so."""
        if any(len(term.dims) != rank for term in self.terms):
            raise NoFormError
        return Form(
            tuple(
                Term(term.tensor, (*term.views, view), change(term.dims), term.offset, term.scale)
                for term in self.terms
            ),
            self.constant,
        )


def _columns(factor: Coefficients, term: Term) -> Coefficients:
    return factor[term.offset : term.offset + len(term.scale)]


class LinearForms:
    """Finds the forms of the tensors of a graph, going back from each to what it is made of.

    Args:
        probe: the shapes of the tensors of the graph.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.whole: set[str] = set()
        """Names of tensors that are terms by themselves, whatever they are made of."""

    def of(self, tensor: gs.Tensor) -> Form:
        """The form of a tensor; the tensor itself is the only term where it is made of nothing else.

        Raises:
            NoFormError: the shape is not known, or the last axis varies.
        """
        width = self.width(tensor)
        if isinstance(tensor, gs.Constant):
            values = np.asarray(tensor.values, np.float64)
            if values.size == width:
                return Form((), values.reshape(-1))
        elif tensor.name not in self.whole and tensor.inputs and tensor.inputs[0].op in _RULES:
            try:
                return _RULES[tensor.inputs[0].op](self, tensor.inputs[0])
            except NoFormError:
                pass  # it is a term itself
        return Form((Term(tensor, (), self.shape(tensor), 0, np.ones(width)),), np.zeros(width))

    def shape(self, tensor: gs.Tensor) -> tuple[Size, ...]:
        shape = self.probe.shape(tensor.name)
        if not shape:
            raise NoFormError
        return shape

    def width(self, tensor: gs.Tensor) -> int:
        """The size of the last axis."""
        width = self.shape(tensor)[-1].constant
        if not width:
            raise NoFormError
        return width

    def operand(self, tensor: gs.Tensor, width: int) -> Form:
        """The form of an operand that has as many columns as the result, or is a constant for all of them."""
        if isinstance(tensor, gs.Constant):
            return Form((), _constant_columns(tensor, width))
        form = self.of(tensor)
        if form.width != width:
            raise NoFormError
        return form


def _constant_columns(tensor: gs.Tensor, width: int) -> Coefficients:
    """A constant that is the same for all rows, as a value for each column."""
    if not isinstance(tensor, gs.Constant):
        raise NoFormError
    values = np.asarray(tensor.values, np.float64)
    if values.size not in (1, width) or (values.size == width > 1 and values.shape[-1] != width):
        raise NoFormError
    return np.broadcast_to(values.reshape(-1), (width,))


def _of_concat(forms: LinearForms, node: gs.Node) -> Form:
    rank = len(forms.shape(node.outputs[0]))
    if node.attrs["axis"] % rank != rank - 1:
        raise NoFormError
    return reduce(Form.beside, (forms.of(tensor) for tensor in node.inputs))


def _of_sum(forms: LinearForms, node: gs.Node) -> Form:
    width = forms.width(node.outputs[0])
    first, second = (forms.operand(tensor, width) for tensor in node.inputs)
    if width < NARROWEST_SUM and first.terms and second.terms:
        raise NoFormError
    return first.plus(second.scaled(np.full(width, -1.0 if node.op == "Sub" else 1.0)))


def _of_product(forms: LinearForms, node: gs.Node) -> Form:
    width = forms.width(node.outputs[0])
    given, factor = node.inputs
    if isinstance(given, gs.Constant) and node.op == "Mul":
        given, factor = factor, given
    columns = _constant_columns(factor, width)
    if node.op == "Div" and not columns.all():
        raise NoFormError
    return forms.operand(given, width).scaled(1 / columns if node.op == "Div" else columns)


def _of_negation(forms: LinearForms, node: gs.Node) -> Form:
    form = forms.of(node.inputs[0])
    return form.scaled(np.full(form.width, -1.0))


def _of_identity(forms: LinearForms, node: gs.Node) -> Form:
    return forms.of(node.inputs[0])


def _of_expand(forms: LinearForms, node: gs.Node) -> Form:
    """Copies need not be made: whoever adds the terms broadcasts them."""
    return forms.operand(node.inputs[0], forms.width(node.outputs[0]))


def _of_transpose(forms: LinearForms, node: gs.Node) -> Form:
    order: list[int] = node.attrs["perm"]
    if order[-1] != len(order) - 1:
        raise NoFormError
    return forms.of(node.inputs[0]).viewed(node, len(order), lambda dims: tuple(dims[place] for place in order))


def _of_unsqueeze(forms: LinearForms, node: gs.Node) -> Form:
    rank = len(forms.shape(node.outputs[0]))
    added = {int(axis) % rank for axis in np.asarray(_values(node.inputs[1])).reshape(-1)}
    if rank - 1 in added:
        raise NoFormError

    def unsqueezed(dims: tuple[Size, ...]) -> tuple[Size, ...]:
        given = iter(dims)
        return tuple(Size.of(1) if place in added else next(given) for place in range(rank))

    return forms.of(node.inputs[0]).viewed(node, rank - len(added), unsqueezed)


def _values(tensor: gs.Tensor) -> Any:
    if not isinstance(tensor, gs.Constant):
        raise NoFormError
    return tensor.values


_RULES: dict[str, Callable[[LinearForms, gs.Node], Form]] = {
    "Add": _of_sum,
    "Concat": _of_concat,
    "Div": _of_product,
    "Expand": _of_expand,
    "Identity": _of_identity,
    "Mul": _of_product,
    "Neg": _of_negation,
    "Sub": _of_sum,
    "Transpose": _of_transpose,
    "Unsqueeze": _of_unsqueeze,
}
"""The operators whose output is linear in their inputs."""
