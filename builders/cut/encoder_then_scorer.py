"""Runs the two parts of a cut one after the other, as they are served."""

from __future__ import annotations

import numpy as np

from cleave.builders.cut.cut import Cut
from cleave.builders.onnx_graph.random_inputs import Arrays
from cleave.builders.onnx_graph.session import OnnxRunner


class EncoderThenScorer:
    """From the inputs of a ranker to its outputs, by history encoder and candidate scorer."""

    def __init__(self, cut: Cut) -> None:
        self.encode = OnnxRunner(cut.history_encoder)
        self.score = OnnxRunner(cut.candidate_scorer)

    def __call__(self, inputs: Arrays) -> Arrays:
        return self.score({**inputs, **self.encode(inputs)})

    def with_users_apart(self, inputs: Arrays) -> Arrays:
        """The outputs with every summary encoded alone, as a cache keeps it, and scored together."""
        batch = len(inputs[self.encode.inputs[0]])
        kept = [self.encode({name: inputs[name][[user]] for name in self.encode.inputs}) for user in range(batch)]
        summary = {name: np.concatenate([single[name] for single in kept]) for name in self.encode.outputs}
        return self.score({**inputs, **summary})
