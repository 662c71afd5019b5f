"""What everything that is served must equal: the scores of the torch module."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cleave.builders.onnx_graph.random_inputs import Arrays
from cleave.builders.spec import Ranker
from cleave.builders.user_code.forward import call, forward


def torch_outputs(ranker: Ranker, inputs: Arrays) -> Arrays:
    """The outputs of the module by name.

    Raises:
        UserCodeError: the module fails.
    """
    return _by_name(ranker, forward(ranker, _tensors(inputs)))


def outputs_of_module(module: torch.nn.Module, ranker: Ranker, inputs: Arrays) -> Arrays:
    """The outputs of a module that takes and gives what that of the ranker does, by name; it raises what it raises."""
    return _by_name(ranker, call(module, _tensors(inputs)))


def _tensors(inputs: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in inputs.items()}


def _by_name(ranker: Ranker, outputs: Sequence[torch.Tensor]) -> Arrays:
    return {tensor.name: value.numpy() for tensor, value in zip(ranker.output, outputs, strict=True)}
