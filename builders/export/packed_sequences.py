"""Recurrent layers over packed sequences, which ONNX writes as a recurrence over padded rows that ends at a length.

torch packs the rows of all users into one list, sorted by length, so that no user's rows stay apart from another's and
sizes depend on data. While a module is exported, a `PackedSequence` holds the padded rows, `[batch, rows, d]`, and the
length of each user, `[batch]`, in the place of the number of users at each step; GRU and LSTM read such a pair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import ir
from onnxscript import opset20 as op
from onnxscript.function_libs.torch_lib.ops.core import aten_gru, aten_lstm
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import rnn
from torch.nn.utils.rnn import PackedSequence

Value = Any
"""A tensor of the graph that is traced: an `onnx_ir.Value` with operators."""

SEQUENCE_LENS = 4
"""The place of the lengths among the inputs of ONNX's GRU and LSTM."""

_OPERATORS = torch.library.Library("cleave", "DEF")  # type: ignore[no-untyped-call]
_OPERATORS.define(  # type: ignore[no-untyped-call]
    "recurrent_layer(Tensor rows, Tensor lengths, Tensor[] states, Tensor[] weights, bool biases, bool bidirectional)"
    " -> Tensor[]"
)
"""One layer over rows `[rows, batch, d]` that end at `lengths`, `[batch]`, from states `[directions, batch, d]` of
which an LSTM has two: its rows, zero behind the end, and its last states. It is traced and never run."""


@torch.library.register_fake("cleave::recurrent_layer", lib=_OPERATORS)  # type: ignore[untyped-decorator]
def _(
    rows: Tensor, lengths: Tensor, states: list[Tensor], weights: list[Tensor], biases: bool, bidirectional: bool
) -> list[Tensor]:
    made = rows.new_empty(rows.shape[0], rows.shape[1], states[0].shape[0] * states[0].shape[2])
    return [made, *(torch.empty_like(state) for state in states)]


def recurrent_layer(
    rows: Value, lengths: Value, states: list[Value], weights: list[Value], biases: bool, bidirectional: bool
) -> list[Value]:
    """ONNX's GRU or LSTM as torch's exporter writes it, with the lengths where the operator reads them."""
    narrow = op.Cast(lengths, to=ir.DataType.INT32)
    options = (biases, 1, 0.0, False, bidirectional, False)
    made = (
        aten_lstm(rows, states, weights, *options) if len(states) > 1 else aten_gru(rows, states[0], weights, *options)
    )
    recurrence = made[1].producer()
    assert recurrence.op_type in ("GRU", "LSTM"), recurrence.op_type
    recurrence.replace_input_with(SEQUENCE_LENS, narrow)
    return list(made)


def _pack(
    input: Tensor,  # noqa: A002
    lengths: Tensor | list[int],
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """Rows in any order of lengths: nothing is sorted."""
    return PackedSequence(input if batch_first else input.transpose(0, 1), torch.as_tensor(lengths, dtype=torch.int64))


def _pad(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Every row that was packed, and `padding_value` behind each user's own."""
    rows, lengths = sequence.data, sequence.batch_sizes
    real = torch.arange(rows.shape[1]) < lengths[:, None]
    padded = torch.where(real.reshape(*real.shape, *[1] * (rows.dim() - 2)), rows, padding_value)
    if total_length is not None and total_length != rows.shape[1]:
        behind = [0, 0] * (rows.dim() - 2) + [0, total_length - rows.shape[1]]
        padded = functional.pad(padded, behind, value=padding_value)
    return padded if batch_first else padded.transpose(0, 1), lengths


def _of_layer(original: Callable[..., Any]) -> Callable[..., Any]:
    """A `forward` of GRU and LSTM that takes rows with lengths as well."""

    def forward(layer: nn.RNNBase, input: Tensor | PackedSequence, hx: Any = None) -> Any:  # noqa: A002
        if not isinstance(input, PackedSequence):
            return original(layer, input, hx)
        rows, lengths = input.data.transpose(0, 1), input.batch_sizes
        states = _first_states(layer, rows) if hx is None else hx if isinstance(hx, tuple) else (hx,)
        ends = []
        directions, num_weights = 1 + layer.bidirectional, len(layer._flat_weights) // layer.num_layers
        for index in range(layer.num_layers):  # one by one, as each ends at the lengths
            rows, *end = torch.ops.cleave.recurrent_layer(
                rows,
                lengths,
                [state[index * directions : (index + 1) * directions] for state in states],
                layer._flat_weights[index * num_weights : (index + 1) * num_weights],
                layer.bias,
                layer.bidirectional,
            )
            ends.append(end)
        last = tuple(torch.cat(parts) for parts in zip(*ends, strict=True))
        return PackedSequence(rows.transpose(0, 1), lengths), last if len(last) > 1 else last[0]

    return forward


def _first_states(layer: nn.RNNBase, rows: Tensor) -> tuple[Tensor, ...]:
    """The state, and of an LSTM the cells, from which torch begins: zeros, `[layers * directions, batch, d]`."""
    sizes = (layer.proj_size or layer.hidden_size, layer.hidden_size)[: 2 if isinstance(layer, nn.LSTM) else 1]
    count = layer.num_layers * (1 + layer.bidirectional)
    return tuple(rows.new_zeros(count, rows.shape[1], size) for size in sizes)


REPLACED: dict[Callable[..., Any], Callable[..., Any]] = {
    rnn.pack_padded_sequence: _pack,
    rnn.pad_packed_sequence: _pad,
}
"""Functions of torch that are replaced wherever a module has imported them, while it is exported."""

FORWARDS: dict[type[nn.RNNBase], Callable[..., Any]] = {layer: _of_layer(layer.forward) for layer in (nn.GRU, nn.LSTM)}
"""`forward` of torch's layers while a module is exported."""
