"""From a ranker to the ONNX graph of the whole model."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import torch

from cleave.builders.export.exact_functions import TRANSLATIONS
from cleave.builders.export.passes import after_export
from cleave.builders.export.refusals import ExportError, check_graph, check_module, explained
from cleave.builders.export.rewrites import rewritten
from cleave.builders.onnx_graph.edit import applied
from cleave.builders.onnx_graph.random_inputs import draw_inputs
from cleave.builders.spec import Axis, Ranker
from cleave.builders.user_code.forward import forward
from cleave.builders.user_code.repeatable import check_repeatable

OPSET = 20
"""The last opset in which the exporter spells attention out; 23's `Attention` op is refused by some engines."""

EXPORT_BATCH = 2


def onnx_from_ranker(ranker: Ranker) -> onnx.ModelProto:
    """The whole model as ONNX, weights inside, batch and every `Axis` dynamic, tensors named as in the spec.

    Nodes are named after the torch module they come from (`blocks.0.key/MatMul`). The same weights give the same
    bytes: nothing of the machine or the time is in it.

    Raises:
        ExportError: the module fails on inputs of its own spec, or fixes the size of an axis.
    """
    check_module(ranker)
    inputs = example_inputs(ranker, example_sizes(ranker))
    check_repeatable(ranker, inputs)
    example_inputs(ranker, ranker.sizes("min"))
    model = applied(after_export(ranker), traced_graph(ranker, inputs))
    onnx.checker.check_model(model)
    return model


def traced_graph(ranker: Ranker, inputs: Mapping[str, torch.Tensor]) -> onnx.ModelProto:
    """The graph that the exporter writes when it traces the module with these inputs, with where each node comes from.

    Raises:
        ExportError: the exporter does not take the module, or the module fixes the size of an axis.
    """
    dynamic = {
        tensor.name: {
            0: torch.export.Dim.DYNAMIC,
            **{i + 1: torch.export.Dim.DYNAMIC for i, axis in enumerate(tensor.axes) if isinstance(axis, Axis)},
        }
        for tensor in ranker.inputs
    }
    _forget_kernels()
    with _quiet(), rewritten(), _inputs_by_name(ranker):
        try:
            program = torch.onnx.export(
                ranker.module.eval(),
                kwargs=dict(inputs),
                dynamo=True,
                opset_version=OPSET,
                input_names=[tensor.name for tensor in ranker.inputs],
                output_names=[tensor.name for tensor in ranker.output],
                dynamic_shapes=dynamic,
                custom_translation_table=TRANSLATIONS,
                verbose=False,
            )
        except Exception as error:
            raise explained(ranker, error) from error
    assert program is not None
    model = program.model_proto
    check_graph(ranker, model)
    return model


def example_sizes(ranker: Ranker) -> dict[str, int]:
    """Small sizes, all different and none 0 or 1, which the exporter would take for constants."""
    sizes: dict[str, int] = {}
    for axis in ranker.axes:
        size = max(axis.min, EXPORT_BATCH + 1)
        while size in sizes.values():
            size += 1
        if axis.max < 2:
            raise ExportError(
                f"axis {axis.name!r}: expected a max of at least 2, got {axis.max}; write a fixed size as a number"
            )
        sizes[axis.name] = min(size, axis.max)
    return sizes


def example_inputs(ranker: Ranker, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Inputs of these sizes with which the module was called, and returned what the spec says."""
    drawn = draw_inputs(ranker, sizes, EXPORT_BATCH, np.random.default_rng(0))
    inputs = {name: torch.from_numpy(array) for name, array in drawn.items()}
    outputs = forward(ranker, inputs)
    if len(outputs) != len(ranker.output):
        raise ExportError(
            f"ranker {ranker.name!r}: expected {len(ranker.output)} outputs as in the spec, got {len(outputs)}; "
            "make forward return one tensor for each output"
        )
    for tensor, value in zip(ranker.output, outputs, strict=True):
        if not isinstance(value, torch.Tensor):
            raise ExportError(
                f"output {tensor.name!r}: expected a tensor from forward, got {type(value).__name__}; return the "
                "tensors of the outputs in the order of the spec"
            )
        expected = (EXPORT_BATCH, *tensor.shape(sizes))
        got_dtype = str(value.dtype).removeprefix("torch.")
        if tuple(value.shape) != expected or got_dtype != tensor.dtype:
            raise ExportError(
                f"output {tensor.name!r}: expected {tensor.dtype} {list(expected)}, got {got_dtype} "
                f"{list(value.shape)}; make the spec or the module right"
            )
    return inputs


@contextlib.contextmanager
def _inputs_by_name(ranker: Ranker) -> Iterator[None]:
    """Let a module that takes `**features` say which: the exporter reads the names of inputs from its signature."""
    module, signature = ranker.module, inspect.signature(ranker.module.forward)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        yield
        return
    original = module.forward

    def forward(**inputs: torch.Tensor) -> Any:
        return original(**inputs)

    names = [inspect.Parameter(tensor.name, inspect.Parameter.KEYWORD_ONLY) for tensor in ranker.inputs]
    forward.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
    own = vars(module).get("forward")  # of the object, not of its class
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _forget_kernels() -> None:
    """The exporter replaces the kernels of recurrent layers while it runs, and torch 2.13 keeps those that it has found
    already, so that a second export in one process would take the kernels that fix the number of steps."""
    for operator in (torch.ops.aten.gru.input, torch.ops.aten.lstm.input):
        operator._dispatch_cache.clear()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports progress by print, by warnings and by logs; what fails, it prints on stderr, graph and all,
    and raises. What the module prints was seen when it was called."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
