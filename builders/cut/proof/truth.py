"""What everything that is served must equal: the scores of the torch module."""

from __future__ import annotations

import torch

from cleave.builders.onnx_graph.random_inputs import Arrays
from cleave.builders.spec import Ranker


def torch_outputs(ranker: Ranker, inputs: Arrays) -> Arrays:
    """The outputs of the module by name."""
    return outputs_of_module(ranker.module, ranker, inputs)


def outputs_of_module(module: torch.nn.Module, ranker: Ranker, inputs: Arrays) -> Arrays:
    """The outputs of a module that takes and gives what that of the ranker does, by name."""
    with torch.no_grad():
        outputs = module.eval()(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return {tensor.name: value.numpy() for tensor, value in zip(ranker.output, outputs, strict=True)}
