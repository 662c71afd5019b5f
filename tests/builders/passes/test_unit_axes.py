"""One value a user is `[batch, 1]` outside of a graph and `[batch]` inside."""

from __future__ import annotations

import numpy as np
import onnx

from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes.unit_axes import with_unit_axes
from tests.builders.graphs import graph


def one_value_a_user() -> onnx.ModelProto:
    """A graph that takes an hour and gives a total, each one value a user."""
    model: onnx.ModelProto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]> graph (
        float[batch,candidates] features, float[batch] hour) => (float[batch,candidates] scores, float[batch] total)
        {
            axis = Constant<value=int64[1] {1}>()
            hours = Unsqueeze(hour, axis)
            scores = Add(features, hours)
            total = ReduceSum<keepdims=0>(scores, axis)
        }"""
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def shapes(model: onnx.ModelProto) -> dict[str, list[str | int]]:
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }


def test_what_has_one_value_a_user_gets_an_axis_of_one_under_its_name() -> None:
    model = one_value_a_user()
    changed = with_unit_axes(model)
    of_candidates: list[str | int] = ["batch", "candidates"]
    assert shapes(changed) == {
        "features": of_candidates,
        "hour": ["batch", 1],
        "scores": of_candidates,
        "total": ["batch", 1],
    }
    rng = np.random.default_rng(0)
    given = {"features": rng.random((3, 5), np.float32), "hour": rng.random(3, np.float32)}
    expected, got = OnnxRunner(model)(given), OnnxRunner(changed)({**given, "hour": given["hour"][:, None]})
    np.testing.assert_array_equal(got["scores"], expected["scores"])
    np.testing.assert_array_equal(got["total"], expected["total"][:, None])


def test_a_graph_of_other_shapes_stays_as_it_is() -> None:
    model = graph("scores = ReduceSum<keepdims=0>(features, last)")
    assert with_unit_axes(model) == model
