"""From a module to ONNX: names, axes, bytes, and what is said of modules that cannot be exported."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor as Values
from torch import nn

from cleave.builders import Axis, Ranker, Tensor
from cleave.builders.contract.manifest import fingerprint_of
from cleave.builders.export.refusals import ExportError
from cleave.builders.export.torch_export import onnx_from_ranker
from cleave.builders.onnx_graph.session import OnnxRunner
from tests.builders.graphs import graph
from tests.builders.models.foreign import KeysOfHistory, foreign_cut
from tests.zoo_cuts import zoo_cut

CLICKS = Axis("clicks", min=1, opt=8, max=50)
SLATE = Axis("slate", min=1, opt=8, max=50)
Forward = Callable[[Values, Values], Any]


class Written(nn.Module):
    """A layer over the history, then what the test writes."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.dropout = nn.Dropout(0.5)
        self.written = forward

    def forward(self, history: Values, items: Values) -> Any:
        return self.written(self.dropout(self.layer(history)), items)


def ranker(forward: Forward, **changes: Any) -> Ranker:
    torch.manual_seed(0)
    made = Ranker(
        name="written",
        module=Written(forward),
        user=(Tensor("history", "float32", (CLICKS, 4)),),
        candidate=(Tensor("items", "float32", (SLATE, 4)),),
        output=(Tensor("scores", "float32", (SLATE,)),),
    )
    return dataclasses.replace(made, **changes)


def dot(users: Values, items: Values) -> Values:
    return (items * users[:, None]).sum(-1)


def test_names_axes_and_bytes() -> None:
    def forward(history: Values, items: Values) -> Values:
        return dot(history.sum(1), items)

    model = onnx_from_ranker(ranker(forward))
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"history": ["batch", "clicks", 4], "items": ["batch", "slate", 4], "scores": ["batch", "slate"]}
    assert model.graph.node[0].name == "layer/MatMul"
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    assert "Dropout" not in {node.op_type for node in model.graph.node}
    assert not model.functions
    assert not model.metadata_props
    assert not model.doc_string
    assert fingerprint_of([model]) == fingerprint_of([onnx_from_ranker(ranker(forward))])


def test_other_weights_have_another_fingerprint() -> None:
    model = graph("scores = ReduceSum<keepdims=0>(features, last)")
    other = graph("scores = ReduceSum<keepdims=0>(features, last)", last=np.array([2]))
    assert fingerprint_of([model]) != fingerprint_of([other])
    assert fingerprint_of([model, other]) != fingerprint_of([other, model])


def test_nodes_are_named_after_the_modules_they_come_from() -> None:
    names = [node.name for node in zoo_cut("append").whole.graph.node]
    for expected in ("blocks.0.key/MatMul", "blocks.1.feed_forward.layers.0/MatMul", "head.output.2/MatMul"):
        assert expected in names


def test_a_size_of_an_axis_that_is_fixed() -> None:
    with pytest.raises(ExportError) as raised:
        onnx_from_ranker(ranker(lambda history, items: dot(sum(history.unbind(1), torch.zeros(4)), items)))
    assert str(raised.value) == (
        "ranker 'written': the module fixes axis 1 of 'history' to 3, so 'clicks' can be neither varied nor padded, "
        "expected 1 to 50; write code that works for any size, or the size as a number in the spec"
    )


def test_a_number_of_users_that_is_fixed() -> None:
    message = (
        "the module fixes axis 0 of 'history' to 2, expected any number of users; keep the batch first and its size "
        "out of the code"
    )
    with pytest.raises(ExportError, match=re.escape(message)):
        onnx_from_ranker(ranker(lambda history, items: dot(history.sum(1), items.view(2, -1, 4))))


@pytest.mark.filterwarnings("ignore")
def test_a_branch_that_depends_on_data() -> None:
    def forward(history: Values, items: Values) -> Values:
        return dot(history.sum(1), items) if history.sum() > 0 else dot(history.mean(1), items)

    message = (
        ": the module takes a branch, or a size, that depends on data, expected operators on "
        "tensors only; use torch.where and masks ("
    )
    with pytest.raises(ExportError, match=re.escape(message)):
        onnx_from_ranker(ranker(forward))


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (
            lambda history, items: (dot(history.sum(1), items), items),
            "ranker 'written': expected 1 outputs as in the spec, got 2; make forward return one tensor for each",
        ),
        (
            lambda history, items: {"scores": dot(history.sum(1), items)},
            "output 'scores': expected a tensor from forward, got dict; return the tensors of the outputs in the order",
        ),
        (
            lambda history, items: dot(history.sum(1), items).unsqueeze(-1),
            "output 'scores': expected float32 [2, 4], got float32 [2, 4, 1]; make the spec or the module right",
        ),
        (
            lambda history, items: dot(history.sum(1), items).double(),
            "output 'scores': expected float32 [2, 4], got float64 [2, 4]; make the spec or the module right",
        ),
    ],
)
def test_a_forward_that_does_not_fit_the_spec(forward: Forward, message: str) -> None:
    with pytest.raises(ExportError, match=re.escape(message)):
        onnx_from_ranker(ranker(forward))


def test_an_axis_of_one_size() -> None:
    single = (Tensor("history", "float32", (Axis("clicks", 1, 1, 1), 4)),)
    message = "axis 'clicks': expected a max of at least 2, got 1; write a fixed size as a number"
    with pytest.raises(ExportError, match=re.escape(message)):
        onnx_from_ranker(ranker(lambda history, items: dot(history.sum(1), items), user=single))


def test_attention_over_no_keys_is_zero_in_onnx_as_it_is_in_torch() -> None:
    """The exporter alone makes it the mean of what is masked."""
    cut = foreign_cut("keys_of_history")
    assert isinstance(cut.ranker.module, KeysOfHistory)
    inputs = {"history": np.array([[0, 0, 0], [1, 2, 0]]), "items": np.array([[4, 5], [6, 7]])}
    with torch.no_grad():
        expected = cut.ranker.module(**{name: torch.from_numpy(array) for name, array in inputs.items()}).numpy()
    for optimized in (True, False):
        scores = OnnxRunner(cut.whole, optimized=optimized)(inputs)["scores"]
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_exporting_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    onnx_from_ranker(ranker(lambda history, items: dot(nn.functional.layer_norm(history, (4,)).sum(1), items)))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_graph_is_valid_onnx() -> None:
    onnx.checker.check_model(zoo_cut("append").whole, full_check=True)
