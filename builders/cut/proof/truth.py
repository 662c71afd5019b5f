"""What everything that is served must equal: the scores of the torch module."""

from __future__ import annotations

import torch

from cleave.builders.onnx_graph.random_inputs import Arrays
from cleave.builders.spec import Ranker


def torch_outputs(ranker: Ranker, inputs: Arrays) -> Arrays:
    """The outputs of the module by name."""
    with torch.no_grad():
        outputs = ranker.module.eval()(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return {tensor.name: value.numpy() for tensor, value in zip(ranker.output, outputs, strict=True)}
