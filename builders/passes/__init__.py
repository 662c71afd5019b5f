"""Passes: each takes an ONNX graph and returns an equal one that suits its target better.

Which passes a target applies, and in which order, stands here. A pass that is new to a target is a file of this folder
and a line of a pipeline.
"""

from __future__ import annotations

from cleave.builders.onnx_graph.edit import Pass
from cleave.builders.passes.double_casts import without_double_casts
from cleave.builders.passes.fold_constants import folded
from cleave.builders.passes.fused_attention import with_attention
from cleave.builders.passes.int32_ids import int32_inside
from cleave.builders.passes.nan_guards import without_nan_guards
from cleave.builders.passes.node_names import with_node_names

TENSORRT: tuple[Pass, ...] = (
    without_double_casts,  # first: the passes that look for attention allow for one cast between two nodes, not for two
    without_nan_guards,  # before folding, as its patterns want masks as the exporter writes them
    int32_inside,  # before folding, as it makes int32 of the constants that are computed with
    folded,  # behind all passes that may leave a node of constants alone
    with_node_names,  # last: the nodes that other passes add need names, too
)
"""Of every graph that becomes an engine: what TensorRT fuses, folds and names better."""

TENSORRT_FUSED: tuple[Pass, ...] = (
    with_attention,  # one for each form of attention that TensorRT has a kernel for
)
"""On top of `TENSORRT`, for the better form of a graph, which TensorRT may refuse."""
