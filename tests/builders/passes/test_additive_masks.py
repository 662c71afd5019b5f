"""Masks that are added instead of chosen: the same scores, also where everything is masked."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cleave.builders.onnx_graph.random_inputs import Arrays
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes.additive_masks import NEVER_READ, additive_masks
from tests.builders.graphs import analyzed, draw, graph, ops, ranker
from tests.zoo_cuts import zoo_cut

LOWEST = float(np.finfo(np.float32).min)
OPT = ranker().sizes("opt")


def attention(masked: str = "masked = Where(mask, weights, lowest)", lowest: float = LOWEST) -> onnx.ModelProto:
    """Candidates read the history by way of a mask."""
    return graph(
        f"""
        real = Greater(ids, two)
        mask = Unsqueeze(real, one)
        transposed = Transpose<perm=[0,2,1]>(events)
        weights = MatMul(features, transposed)
        {masked}
        shares = Softmax<axis=-1>(masked)
        read = MatMul(shares, events)
        scores = ReduceSum<keepdims=0>(read, last)
        """,
        lowest=np.array(lowest, np.float32),
    )


def optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    return additive_masks(model, analyzed(model)[0], OPT)


def inputs(masked_rows: bool) -> Arrays:
    """Three users, the first of whom has no readable row if asked."""
    drawn = draw(3, 7, 5)
    if masked_rows:
        drawn["ids"][0] = 0
    return drawn


@pytest.mark.parametrize(
    "masked", ["masked = Where(mask, weights, lowest)", "hidden = Not(mask) masked = Where(hidden, lowest, weights)"]
)
@pytest.mark.parametrize("lowest", [LOWEST, NEVER_READ])
@pytest.mark.parametrize("masked_rows", [False, True])
def test_scores_stay_the_same(masked: str, lowest: float, masked_rows: bool) -> None:
    model = attention(masked, lowest)
    added = optimized(model)
    assert ops(added).count("Add") == 1
    onnx.checker.check_model(added, full_check=True)
    given = inputs(masked_rows)
    expected = OnnxRunner(model)(given)["scores"]
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(OnnxRunner(added)(given)["scores"], expected, rtol=0, atol=1e-6)


def test_rows_without_a_key_stay_not_a_number_where_they_were() -> None:
    model = attention(lowest=-np.inf)
    given = inputs(masked_rows=True)
    before, after = OnnxRunner(model)(given)["scores"], OnnxRunner(optimized(model))(given)["scores"]
    assert np.isnan(before[0]).all()
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lowest", [-1e9, -6e4, 0])
def test_masks_that_real_weights_could_move_are_left(lowest: float) -> None:
    model = attention(lowest=lowest)
    assert optimized(model) == model


def test_masks_as_large_as_the_weights_are_left() -> None:
    model = graph(
        """
        transposed = Transpose<perm=[0,2,1]>(events)
        weights = MatMul(features, transposed)
        mask = Greater(weights, half)
        masked = Where(mask, weights, lowest)
        shares = Softmax<axis=-1>(masked)
        scores = ReduceSum<keepdims=0>(shares, last)
        """,
        lowest=np.array(LOWEST, np.float32),
        half=np.array(0.5, np.float32),
    )
    assert optimized(model) == model


def test_masks_before_anything_but_a_softmax_are_left() -> None:
    """A maximum would show the difference: it may return the mask itself."""
    model = attention()
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "LogSoftmax"
    assert optimized(model) == model


def test_the_masks_of_append_are_added() -> None:
    cut = zoo_cut("append")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in cut.whole.graph.initializer}
    softmaxes = [node for node in cut.whole.graph.node if node.op_type == "Softmax"]
    producers = {output: node for node in cut.whole.graph.node for output in node.output}
    assert len(softmaxes) == 2
    for softmax in softmaxes:
        added = producers[softmax.input[0]]
        assert added.op_type == "Add"
        mask = next(producers[name] for name in added.input if producers[name].op_type == "Where")
        assert {float(constants[name]) for name in mask.input[1:]} == {0.0, LOWEST}
