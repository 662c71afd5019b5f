"""The test for NaN behind a softmax goes, and no score changes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes.nan_guards import without_nan_guards
from cleave.builders.passes.precision import with_precision
from cleave.builders.passes.rounding import rounded
from tests.builders.graphs import analyzed, assert_equal_graphs, draw, graph, ops

LOWEST = float(np.finfo(np.float32).min)

GUARDED = """
    real = Greater(ids, two)
    mask = Unsqueeze(real, one)
    bias = Where(mask, nothing, lowest)
    transposed = Transpose<perm=[0,2,1]>(events)
    weights = MatMul(features, transposed)
    masked = Add(weights, bias)
    shares = Softmax<axis=-1>(masked)
    invalid = IsNaN(shares)
    guarded = Where(invalid, nothing, shares)
    read = MatMul(guarded, events)
    scores = ReduceSum<keepdims=0>(read, last)
"""


def guarded(lowest: float) -> onnx.ModelProto:
    return graph(GUARDED, lowest=np.array(lowest, np.float32), nothing=np.array(0, np.float32))


@pytest.mark.parametrize("masked_user", [False, True])
def test_nan_guards_go_where_the_mask_says_the_same(masked_user: bool) -> None:
    model = guarded(-np.inf)
    changed = without_nan_guards(model)
    assert "IsNaN" in ops(model)
    assert "IsNaN" not in ops(changed)
    given = draw(3, 7, 5)
    if masked_user:
        given["ids"][1] = 0
    expected = OnnxRunner(model)(given)["scores"]
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(OnnxRunner(changed)(given)["scores"], expected, atol=1e-6)
    assert (expected[1] == 0).all() == masked_user


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_every_attention_that_reads_a_mask_is_zero_where_no_key_can_be_read(precision: str) -> None:
    """Layers share one mask; in half precision there is a cast between weights and product."""
    second = """
        keys = Transpose<perm=[0,2,1]>(events)
        more = MatMul(read, keys)
        more_masked = Add(more, bias)
        more_shares = Softmax<axis=-1>(more_masked)
        more_invalid = IsNaN(more_shares)
        more_guarded = Where(more_invalid, nothing, more_shares)
        more_read = MatMul(more_guarded, events)
        mapped = MatMul(more_read, w)
        scores = ReduceSum<keepdims=0>(mapped, last)
    """
    exact = graph(
        GUARDED.replace("scores = ReduceSum<keepdims=0>(read, last)", second),
        lowest=np.array(-np.inf, np.float32),
        nothing=np.array(0, np.float32),
    )
    model = with_precision(exact, precision, analyzed(exact)[0])
    changed = without_nan_guards(model)
    assert "IsNaN" not in ops(changed)
    given = draw(3, 7, 5)
    given["ids"][1] = 0
    expected, got = (OnnxRunner(rounded(each))(given)["scores"] for each in (model, changed))
    assert (expected[1] == 0).all()
    assert (expected[0] != 0).all()
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_guard_of_a_finite_mask_goes_without_a_trace() -> None:
    model = guarded(float(LOWEST))
    changed = without_nan_guards(model)
    assert Counter(ops(model)) - Counter(ops(changed)) == {"IsNaN": 1, "Where": 1}
    assert_equal_graphs(model, changed)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("bias = Where(mask, nothing, lowest)", "hidden = Not(mask) bias = Where(hidden, lowest, nothing)"),
        ("Softmax<axis=-1>", "Softmax<axis=1>"),
        ("guarded = Where(invalid, nothing, shares)", "guarded = Where(invalid, shares, nothing)"),
    ],
    ids=["minus infinity where the mask holds", "over queries", "zero where it is a number"],
)
def test_a_guard_of_another_attention_stays(before: str, after: str) -> None:
    model = graph(GUARDED.replace(before, after), lowest=np.array(-np.inf, np.float32), nothing=np.array(0, np.float32))
    assert ops(without_nan_guards(model)) == ops(model)


def test_a_guard_of_something_else_stays() -> None:
    model = graph(
        """
        roots = Sqrt(features)
        invalid = IsNaN(roots)
        guarded = Where(invalid, nothing, roots)
        scores = ReduceSum<keepdims=0>(guarded, last)
        """,
        nothing=np.array(0, np.float32),
    )
    assert ops(without_nan_guards(model)) == ops(model)
