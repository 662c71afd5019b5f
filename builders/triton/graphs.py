"""The graphs of a model repository: what each of its models computes, as it is served."""

from __future__ import annotations

import onnx

from cleave.builders.cut.cut import Cut
from cleave.builders.names import CANDIDATE_SCORER, HISTORY_ENCODER, SUMMARY_CACHE, UNCACHED, WHOLE
from cleave.builders.passes.batch_columns import with_columns


def artifacts_of(cut: Cut) -> dict[str, onnx.ModelProto | None]:
    """The ONNX model of each model of the repository; None for what has no graph of its own."""
    name = cut.ranker.name
    return {
        f"{name}{WHOLE}": with_columns(cut.whole),
        f"{name}{HISTORY_ENCODER}": with_columns(cut.history_encoder),
        f"{name}{CANDIDATE_SCORER}": with_columns(cut.candidate_scorer),
        f"{name}{UNCACHED}": None,
        f"{name}{SUMMARY_CACHE}": None,
        name: None,
    }
