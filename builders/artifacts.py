"""The graphs of a model repository: what each of its models computes, as it is served."""

from __future__ import annotations

import onnx

from builders.columns import with_columns
from builders.split import Cut


def artifacts_of(cut: Cut) -> dict[str, onnx.ModelProto | None]:
    """The ONNX model of each model of the repository; None for what has no graph of its own."""
    name = cut.ranker.name
    return {
        f"{name}_whole": with_columns(cut.whole),
        f"{name}_history_encoder": with_columns(cut.history_encoder),
        f"{name}_candidate_scorer": with_columns(cut.candidate_scorer),
        f"{name}_uncached": None,
        f"{name}_summary_cache": None,
        name: None,
    }
