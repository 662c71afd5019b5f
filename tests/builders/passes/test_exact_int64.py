"""ONNX Runtime gives what ONNX says, whatever the integers are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from cleave.builders.onnx_graph.random_inputs import AnyArray
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes.exact_int64 import SAFE, Int64Error, exact_int64
from tests.builders.graphs import graph, ops
from tests.builders.integer_graphs import edge_inputs, integer_graphs


def reference(model: onnx.ModelProto, seed: int) -> AnyArray:
    """What numpy computes, in int64 throughout."""
    inputs = edge_inputs(seed)
    names = [value.name for value in model.graph.input]
    with np.errstate(all="ignore"):
        results: Any = ReferenceEvaluator(model).run(None, {name: inputs[name] for name in names})
    return np.asarray(results[0])


@settings(max_examples=25, deadline=None)
@given(integer_graphs(), st.integers(0, 1000))
def test_scores_are_those_of_the_reference(model: onnx.ModelProto, seed: int) -> None:
    got = OnnxRunner(exact_int64(model))(edge_inputs(seed))["scores"]
    np.testing.assert_allclose(got, reference(model, seed), rtol=1e-5, atol=1e-5)


STEPS = {
    "Clip": "x = Clip(ids, seconds, milliseconds)",
    "Max": "x = Max(ids, items_of_all, seconds)",
    "Min": "x = Min(ids, items_of_all)",
    "Sign": "x = Sign(ids)",
    "ReduceMax": "x = ReduceMax<keepdims=1>(ids, last)",
    "ReduceMin": "d = ReduceMin<keepdims=0>(ids, one) x = Unsqueeze(d, one)",
    "ReduceSum": "x = ReduceSum<keepdims=1>(ids, last)",
}
END = """
    row = Mod(x, ten)
    found = Gather<axis=0>(table, row)
    vector = ReduceSum<keepdims=1>(found, one)
    joined = Mul(features, vector)
    scores = ReduceSum<keepdims=0>(joined, last)
"""


def of_step(step: str) -> onnx.ModelProto:
    constants = {"ten": 10, "seconds": 1_699_000_000, "milliseconds": 1_699_000_000_000}
    arrays = {name: np.array(value) for name, value in constants.items()}
    return graph(f"items_of_all = ReduceMax<keepdims=1>(items, one) {step} {END}", **arrays)


@pytest.mark.parametrize("op", STEPS)
def test_an_operator_that_is_wrong_is_replaced(op: str) -> None:
    """If a later ONNX Runtime gets it right, this fails, and the pass may go."""
    model = of_step(STEPS[op])
    seeds = range(40)
    assert any(
        not np.allclose(OnnxRunner(model)(edge_inputs(seed))["scores"], reference(model, seed)) for seed in seeds
    )
    changed = exact_int64(model)
    assert not set(ops(changed)) & (set(SAFE) - {"ReduceSum"})
    runner = OnnxRunner(changed)
    for seed in seeds:
        np.testing.assert_allclose(runner(edge_inputs(seed))["scores"], reference(model, seed), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", STEPS)
def test_where_no_value_gets_large_the_graph_stays_as_it_is(op: str) -> None:
    body = f"small = Mod(ids, ten) {STEPS[op].replace('ids', 'small')} {END}"
    few = {name: np.array(value) for name, value in {"ten": 10, "seconds": 3, "milliseconds": 7}.items()}
    model = graph(f"few = Mod(items, ten) items_of_all = ReduceMax<keepdims=1>(few, one) {body}", **few)
    assert exact_int64(model) is model


def test_floats_stay_as_they_are() -> None:
    body = "top = ReduceMax<keepdims=1>(features, last) joined = Max(features, top)"
    model = graph(f"{body} scores = ReduceSum<keepdims=0>(joined, last)")
    assert exact_int64(model) is model


def test_products_of_sizes_stay_and_products_of_data_are_refused() -> None:
    sizes = """
        shape = Shape<start=1,end=2>(ids)
        count = ReduceProd<keepdims=0>(shape, zero)
        floats = Cast<to=1>(count)
        sums = ReduceSum<keepdims=0>(features, last)
        scores = Div(sums, floats)
    """
    model = graph(sizes)
    assert exact_int64(model) is model
    data = graph(f"x = ReduceProd<keepdims=1>(ids, last) {END}", ten=np.array(10))
    with pytest.raises(Int64Error) as raised:
        exact_int64(data)
    assert str(raised.value) == (
        "model/ReduceProd_0: expected integers within 2^53, up to which ONNX Runtime multiplies exactly, got a "
        "ReduceProd that may go beyond; let module 'model' multiply remainders, clamped integers or floats"
    )


def test_an_extreme_over_all_axes_is_refused() -> None:
    with pytest.raises(Int64Error, match="expected the axes of a ReduceMax of integers to be named, got all of them"):
        exact_int64(
            graph(
                f"m = ReduceMax<keepdims=0>(ids) x = Unsqueeze(m, both) {END}", ten=np.array(10), both=np.array([0, 1])
            )
        )
