"""What cannot be exported, in words: seen on the module, in what the exporter raises, or on the graph it writes."""

from __future__ import annotations

import re
import traceback

import onnx
import torch
from onnx import AttributeProto

from cleave.builders.errors import BuilderError
from cleave.builders.formatting import byte_quantity
from cleave.builders.spec import Axis, Ranker
from cleave.builders.user_code.failure import own_frame, own_line

LARGEST_FILE = onnx.checker.MAXIMUM_PROTOBUF
"""Bytes of an ONNX file with the weights inside."""

_FIXED_SIZE = re.compile(r"static shape of (\d+) for dimension inputs\['(\w+)'\]\.shape\[(\d+)\]")
_STACK_KEY = "pkg.torch.onnx.stack_trace"
_FRAME = re.compile(r'File "(.+?)", line (\d+), in (\w+)')


class ExportError(BuilderError):
    """The module cannot be written as an ONNX graph with the axes of its spec."""


def check_module(ranker: Ranker) -> None:
    """Refuse what is known not to work before it is tried.

    Raises:
        ExportError: a submodule is TorchScript, or the weights are too large for a file.
    """
    for path, module in ranker.module.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = f"submodule {path!r}" if path else "the module"
            raise ExportError(
                f"ranker {ranker.name!r}: {what} was made by torch.jit, whose code torch.export does not read, "
                "expected modules of Python; leave torch.jit.script and torch.jit.trace out"
            )
    weights = {*ranker.module.parameters(), *ranker.module.buffers()}
    num_bytes = sum(weight.nbytes for weight in weights)
    if num_bytes > LARGEST_FILE:
        raise ExportError(
            f"ranker {ranker.name!r}: the weights take {byte_quantity(num_bytes)}, expected at most "
            f"{byte_quantity(LARGEST_FILE)}, which an ONNX file holds; give the tables fewer rows (hash their ids) or "
            "fewer columns"
        )


def explained(ranker: Ranker, error: Exception) -> ExportError:
    """What to say for what torch.onnx.export raises."""
    cause = error.__cause__ or error
    for size, name, place in _FIXED_SIZE.findall(str(cause)):
        return ExportError(_fixed_size(ranker, int(size), name, int(place)))
    where = own_line(error) or f"ranker {ranker.name!r}"
    reason = next(iter(str(cause).strip().splitlines()), "no reason given")
    if "data-dependent" in str(cause):
        return ExportError(
            f"{where}: the module takes a branch, or a size, that depends on data, expected operators on tensors only; "
            f"use torch.where and masks ({reason})"
        )
    return ExportError(
        f"{where}: torch.onnx.export failed: {type(cause).__name__}: {reason}; change the module until "
        "torch.export.export accepts it"
    )


def _fixed_size(ranker: Ranker, size: int, name: str, place: int) -> str:
    where = f"ranker {ranker.name!r}: the module fixes axis {place} of {name!r} to {size}"
    if place == 0:
        return f"{where}, expected any number of users; keep the batch first and its size out of the code"
    axis = next(tensor.axes[place - 1] for tensor in ranker.inputs if tensor.name == name)
    assert isinstance(axis, Axis)
    return (
        f"{where}, so {axis.name!r} can be neither varied nor padded, expected {axis.min} to {axis.max}; "
        "write code that works for any size, or the size as a number in the spec"
    )


def check_graph(ranker: Ranker, model: onnx.ModelProto) -> None:
    """Refuse a graph, as the exporter writes it, with what no cut goes through.

    Raises:
        ExportError: the graph has control flow; names the user's line.
    """
    for node in model.graph.node:
        if any(attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in node.attribute):
            raise ExportError(
                f"{line_of(node) or f'ranker {ranker.name!r}'}: expected operators on tensors, got control flow "
                f"({node.op_type}); write branches with torch.where, loops and embedding bags as masked sums"
            )


def line_of(node: onnx.NodeProto) -> str:
    """The line of the user's `forward` that a node comes from, as the exporter writes it; empty if there is none."""
    text = next((entry.value for entry in node.metadata_props if entry.key == _STACK_KEY), "")
    frames = [traceback.FrameSummary(file, int(line), name) for file, line, name in _FRAME.findall(text)]
    return own_frame(traceback.StackSummary.from_list(frames))
