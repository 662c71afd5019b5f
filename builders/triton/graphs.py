"""The graphs of a model repository: what each of its models computes, as it is served."""

from __future__ import annotations

import onnx

from cleave.builders.cut.cut import Cut
from cleave.builders.names import model_name
from cleave.builders.onnx_graph.edit import applied
from cleave.builders.passes import ONNXRUNTIME
from cleave.builders.triton.configs import REPOSITORY_MODELS


def artifacts_of(cut: Cut) -> dict[str, onnx.ModelProto | None]:
    """The ONNX model of each model of the repository; None for what has no graph of its own."""
    return {
        model_name(cut.ranker.name, model.name): (
            applied(ONNXRUNTIME, cut.parts[model.name].graph) if model.kind == "graph" else None
        )
        for model in REPOSITORY_MODELS
    }
