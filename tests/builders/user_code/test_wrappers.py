"""Modules as training leaves them: compiled, in a wrapper of several devices, or with features by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor as Values
from torch import nn

from cleave.builders import Axis, Ranker, Tensor
from cleave.builders.export.torch_export import onnx_from_ranker
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.user_code.wrappers import unwrapped

EVENTS, SLATE = Axis("events", min=1, opt=4, max=16), Axis("slate", min=1, opt=4, max=16)


class ByName(nn.Module):
    """Takes whatever it is given, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, history: Values, **features: Values) -> Values:
        scores: Values = (features["items"] * self.inner(history).sum(1, keepdim=True)).sum(-1)
        return scores


def ranker(module: nn.Module) -> Ranker:
    return Ranker(
        name="wrapped",
        module=module,
        user=(Tensor("history", "float32", (EVENTS, 3)),),
        candidate=(Tensor("items", "float32", (SLATE, 3)),),
        output=(Tensor("scores", "float32", (SLATE,)),),
    )


def test_features_by_name() -> None:
    made = ranker(ByName())
    inputs = {"history": torch.rand(2, 5, 3), "items": torch.rand(2, 7, 3)}
    expected = made.module(**inputs).detach().numpy()
    model = onnx_from_ranker(made)
    shapes = [tensor.type.tensor_type.shape.dim for tensor in model.graph.input]
    assert [[dim.dim_param for dim in shape] for shape in shapes] == [["batch", "events", ""], ["batch", "slate", ""]]
    scores = OnnxRunner(model)({name: value.numpy() for name, value in inputs.items()})["scores"]
    assert scores == pytest.approx(expected, abs=1e-5)
    assert "forward" not in vars(made.module)


def compiled_for_several_devices(module: nn.Module) -> Any:
    return torch.compile(nn.DataParallel(module))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # that torch.compile raises about torch itself
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, compiled_for_several_devices])
def test_wrappers(wrap: Callable[[nn.Module], Any]) -> None:
    module = ByName()
    wrapped = wrap(module)
    (path,) = (path for path, inner in wrapped.named_modules() if inner is module.inner)
    taken_out = unwrapped(dataclasses.replace(ranker(wrapped), boundary=(path,)))
    assert taken_out.module is module
    assert taken_out.boundary == ("inner",)
    assert unwrapped(taken_out) is taken_out
