"""What TensorRT is given of a cut: for each model of the repository its graph and the profiles of its engine."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from builders.artifacts import artifacts_of
from builders.attention_pass import with_attention
from builders.configs import MAX_BATCH_SIZE
from builders.profiles import Profile, profiles_of
from builders.sizes import Probe, product
from builders.spec import BATCH, Ranker
from builders.split import Cut
from builders.tensorrt_graph import tensorrt_graph

MOST_ELEMENTS = 2**31 - 1
"""Of any tensor of an engine: what a 32-bit index counts.

The batch is limited so that the longest requests stay below.
"""


@dataclass(frozen=True)
class TensorRTPart:
    """One engine to be built."""

    name: str
    """The model of the repository."""
    models: tuple[onnx.ModelProto, ...]
    """One graph in up to two forms, the better one first: with ONNX `Attention`, and with attention spelled out."""
    profiles: tuple[Profile, ...]

    @property
    def max_batch(self) -> int:
        """Users whose requests the engine takes at once, whatever their lengths."""
        return self.profiles[0].ranges[BATCH].max


def tensorrt_parts(cut: Cut) -> tuple[TensorRTPart, ...]:
    """The engines of a cut: whole model, history encoder, candidate scorer."""
    profiles = profiles_of_cut(cut)
    parts = []
    for name, artifact in artifacts_of(cut).items():
        if artifact is not None:
            spelled_out = tensorrt_graph(artifact)
            best = with_attention(spelled_out)
            parts.append(TensorRTPart(name, (best,) if best is spelled_out else (best, spelled_out), profiles[name]))
    return tuple(parts)


def profiles_of_cut(cut: Cut) -> dict[str, tuple[Profile, ...]]:
    """The optimization profiles of each model that has a graph."""
    profiles = {}
    for name, artifact in artifacts_of(cut).items():
        if artifact is not None:
            probe = cut.whole_probe if name == f"{cut.ranker.name}_whole" else cut.analysis.probe
            max_batch = max_batch_of(with_attention(artifact), probe, cut.ranker)
            profiles[name] = profiles_of(artifact, cut.ranker.axes, max_batch)
    return profiles


def max_batch_of(model: onnx.ModelProto, probe: Probe, ranker: Ranker) -> int:
    """The largest power of two up to `MAX_BATCH_SIZE` at which no tensor has more than `MOST_ELEMENTS`; at least 1.

    Every axis is at its max, as Triton knows one limit of the batch for all lengths.
    """
    sizes = {BATCH: 1, **ranker.sizes("max")}
    shapes = (probe.shape(name) for node in model.graph.node for name in node.output)
    largest = max((product(shape).at(sizes) for shape in shapes if shape is not None), default=1)
    batch = MAX_BATCH_SIZE
    while batch > 1 and batch * largest > MOST_ELEMENTS:
        batch //= 2
    return batch
