"""What TensorRT is given of a cut: for each model of the repository its graph and the profiles of its engine."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from cleave.builders.cost.peak_memory import Activations
from cleave.builders.cut.cut import Cut
from cleave.builders.names import BATCH, model_name
from cleave.builders.onnx_graph.edit import applied
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.passes import TENSORRT, TENSORRT_FUSED
from cleave.builders.spec import Ranker
from cleave.builders.targets.tensorrt.profiles import Profile, profiles_of
from cleave.builders.triton.configs import MAX_BATCH_SIZE

MOST_ELEMENTS = 2**31 - 1
"""Of any tensor of an engine: what a 32-bit index counts."""

MOST_BYTES = 2 << 30
"""That an engine may hold at once for a full batch of the longest requests, as `Activations` estimates it: the three
engines of a model then leave most of a GPU of 24 GB (A10, L4) to their other profiles and to other models."""


@dataclass(frozen=True)
class Form:
    """A graph of a part, and the profiles that its engine gets: another graph may have room for fewer users."""

    model: onnx.ModelProto
    profiles: tuple[Profile, ...]

    @property
    def max_batch(self) -> int:
        """Users whose requests the engine takes at once, whatever their lengths."""
        return self.profiles[0].ranges[BATCH].max


@dataclass(frozen=True)
class TensorRTPart:
    """One engine to be built."""

    name: str
    """The model of the repository."""
    forms: tuple[Form, ...]
    """Up to two, the better one first: with ONNX `Attention`, and with attention spelled out."""

    @property
    def num_attentions(self) -> int:
        """Attentions that become one kernel each if TensorRT takes the better form."""
        return sum(node.op_type == "Attention" for node in self.forms[0].model.graph.node)


def tensorrt_parts(cut: Cut) -> tuple[TensorRTPart, ...]:
    """An engine for each part of a cut."""
    parts = []
    for name, part in cut.parts.items():
        spelled_out = applied(TENSORRT, part.graph)
        best = applied(TENSORRT_FUSED, spelled_out)
        models = (best,) if best is spelled_out else (best, spelled_out)
        forms = tuple(_form(model, part.probe, cut.ranker) for model in models)
        parts.append(TensorRTPart(model_name(cut.ranker.name, name), forms))
    return tuple(parts)


def profiles_of_cut(cut: Cut) -> dict[str, tuple[Profile, ...]]:
    """The optimization profiles of each model that has a graph, where TensorRT takes its better form."""
    return {part.name: part.forms[0].profiles for part in tensorrt_parts(cut)}


def _form(model: onnx.ModelProto, probe: Probe, ranker: Ranker) -> Form:
    return Form(model, profiles_of(model, ranker.axes, max_batch_of(model, probe, ranker)))


def max_batch_of(model: onnx.ModelProto, probe: Probe, ranker: Ranker) -> int:
    """The largest power of two up to `MAX_BATCH_SIZE` that `MOST_ELEMENTS` and `MOST_BYTES` allow; at least 1.

    Every axis is at its max: Triton knows one limit of the batch for all lengths, joins that many requests of any, and
    answers with an error where no profile takes them.
    """
    activations, batch = Activations(model, probe), MAX_BATCH_SIZE
    while batch > 1:
        sizes = {BATCH: batch, **ranker.sizes("max")}
        if activations.largest(sizes) <= MOST_ELEMENTS and activations.peak_bytes(sizes) <= MOST_BYTES:
            break
        batch //= 2
    return batch
