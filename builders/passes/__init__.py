"""Passes: each takes an ONNX graph and returns an equal one that suits its target better.

Which passes a graph goes through, and in which order, stands here: a pipeline for what every graph goes through before
it is cut, for each precision, and for each target. A pass that is new to one of them is a file of this folder and a
line here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from cleave.builders.onnx_graph.edit import Pass
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.passes.additive_masks import additive_masks
from cleave.builders.passes.double_casts import without_double_casts
from cleave.builders.passes.exact_int64 import exact_int64
from cleave.builders.passes.fold_constants import folded
from cleave.builders.passes.fused_attention import with_attention
from cleave.builders.passes.int32_ids import int32_inside
from cleave.builders.passes.nan_guards import without_nan_guards
from cleave.builders.passes.node_names import with_node_names
from cleave.builders.passes.precision import with_precision
from cleave.builders.passes.unit_axes import with_unit_axes


def before_cut(probe: Probe, sizes: Mapping[str, int]) -> tuple[Pass, ...]:
    """For the graph of a whole model, before the cut, whose analysis is that of the graph after these passes.

    Args:
        probe: sizes of the tensors of the graph.
        sizes: of every axis by name, to be fast at.
    """
    return (
        exact_int64,  # first: whatever is analyzed and served computes what the module does
        partial(additive_masks, probe=probe, sizes=sizes),
    )


def in_precision(precision: str, probe: Probe, scores: Iterable[str]) -> tuple[Pass, ...]:
    """For every part of a cut whose products and weights are to be in `precision`; see `with_precision`."""
    return (
        folded,  # first: what depends on weights alone is computed in float32 and rounded once
        partial(with_precision, precision=precision, probe=probe, scores=scores),
    )


ONNXRUNTIME: tuple[Pass, ...] = (with_unit_axes,)
"""For every graph of a model repository: the ONNX file, whatever engine is made of it."""

TENSORRT: tuple[Pass, ...] = (
    with_unit_axes,  # the inputs and outputs of an engine are those of the ONNX file beside it
    without_double_casts,  # before the passes that look for attention, which allow for one cast between two nodes
    without_nan_guards,  # before folding, as its patterns want masks as the exporter writes them
    int32_inside,  # before folding, as it makes int32 of the constants that are computed with
    folded,  # behind all passes that may leave a node of constants alone
    with_node_names,  # last: the nodes that other passes add need names, too
)
"""For every graph that becomes an engine: what TensorRT fuses, folds and names better."""

TENSORRT_FUSED: tuple[Pass, ...] = (
    with_attention,  # one line for each form of attention that TensorRT has a kernel for
)
"""On top of `TENSORRT`, for the better form of a graph, which TensorRT may refuse."""
