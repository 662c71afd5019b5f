"""Bounds of tensors hold for every value that a request may hold, and are tight where passes rely on them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleave.builders.onnx_graph.interval_rules import LARGEST_AXIS, Interval
from cleave.builders.onnx_graph.intervals import intervals, made_of_sizes
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes.exact_int64 import exact_int64
from tests.builders.graphs import graph
from tests.builders.integer_graphs import edge_inputs, integer_graphs

INT64 = Interval(-(2**63), 2**63 - 1)


@settings(max_examples=25, deadline=None)
@given(integer_graphs(), st.integers(0, 1000))
def test_no_value_is_out_of_bounds(model: onnx.ModelProto, seed: int) -> None:
    model = exact_int64(model)
    known = intervals(model)
    names = [name for node in model.graph.node for name in node.output]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name != "scores")
    runner = OnnxRunner(watched, names, optimized=False)
    for name, values in runner(edge_inputs(seed)).items():
        finite = values[np.isfinite(values)]
        assert known[name].low <= finite.min(), name
        assert finite.max() <= known[name].high, name


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = Mod(ids, seven)", Interval(0, 6)),
        ("x = Mod(ids, minus_seven)", Interval(-6, 0)),
        ("x = Mod<fmod=1>(ids, seven)", Interval(-6, 6)),
        ("x = Clip(ids, zero_scalar, seven)", Interval(0, 7)),
        ("x = Clip(ids, zero_scalar)", Interval(0, 2**63 - 1)),
        ("m = Mod(ids, seven) x = Mul(m, minus_seven)", Interval(-42, 0)),
        ("m = Mod(ids, seven) x = CumSum(m, one)", Interval(0, 6 * LARGEST_AXIS)),
        ("m = Mod(ids, seven) x = ReduceSum<keepdims=1>(m, last)", Interval(0, 6 * LARGEST_AXIS)),
        (
            "r = Greater(ids, zero_scalar) m = Cast<to=7>(r) x = ReduceSum<keepdims=0>(m, last)",
            Interval(0, LARGEST_AXIS),
        ),
        ("o = Less(ids, zero_scalar) x = Where(o, seven, ids)", Interval(0, 2**63 - 1)),
        ("o = GreaterOrEqual(ids, seven) x = Where(o, zero_scalar, ids)", Interval(-(2**63), 6)),
        ("e = Equal(ids, seven) x = Where(e, ids, zero_scalar)", Interval(0, 7)),
        ("x = BitwiseAnd(ids, seven)", Interval(0, 7)),
        ("x = Add(ids, seven)", INT64),
        ("x = Mul(ids, seven)", INT64),
        ("x = ArgMax<axis=1>(ids)", Interval(0, LARGEST_AXIS - 1)),
        ("s = Shape<start=1,end=2>(ids) x = Add(s, one)", Interval(1, LARGEST_AXIS)),
        ("f = Cast<to=1>(ids) s = Sigmoid(f) t = Mul(s, forty) x = Cast<to=7>(t)", Interval(0, 40)),
    ],
)
def test_bounds_are_tight(body: str, expected: Interval) -> None:
    constants = {"seven": 7, "minus_seven": -7, "zero_scalar": 0}
    arrays = {name: np.array(value) for name, value in constants.items()}
    model = graph(f"{body} scores = ReduceSum<keepdims=0>(features, last)", forty=np.array(40, np.float32), **arrays)
    assert intervals(model)["x"] == expected


def test_a_guard_of_two_sides_bounds_what_it_lets_through() -> None:
    """As a table with an unknown row is written."""
    body = """
        low = Less(ids, zero_scalar)
        high = GreaterOrEqual(ids, rows)
        unknown = Or(low, high)
        x = Where(unknown, rows, ids)
        scores = ReduceSum<keepdims=0>(features, last)
    """
    assert intervals(graph(body, zero_scalar=np.array(0), rows=np.array(9)))["x"] == Interval(0, 9)


def test_sizes_and_what_is_computed_from_them_hold_no_data() -> None:
    model = graph(
        "n = Shape<start=1,end=2>(ids) m = Mul(n, two) x = Add(ids, m) scores = ReduceSum<keepdims=0>(features, last)"
    )
    assert made_of_sizes(model) == {"two", "last", "n", "m"}
