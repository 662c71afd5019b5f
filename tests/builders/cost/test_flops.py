"""FLOPs and bytes of single operators, and of the arms."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from cleave.builders.cost.flops import (
    Flops,
    UncountedError,
    bytes_of_tensor,
    flops_of_node,
    weight_bytes,
)
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.sizes import Size
from tests.builders.graphs import analyzed, graph

REST = " scores = ReduceSum<keepdims=0>(features, last)"
N, M = 6, 5
SIZES = {"batch": 1, "history": N, "candidates": M}


def flops(body: str, **weights: NDArray[Any]) -> int:
    """The FLOPs of the first node for one user."""
    model = graph(body + REST, **weights)
    return flops_of_node(model.graph.node[0], analyzed(model)[0]).at(SIZES)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = MatMul(events, w)", 2 * N * 4 * 4),
        ("y = MatMul(profile, w)", 2 * 4 * 4),
        ("y = Gemm<transB=1>(profile, w, bias)", 2 * 4 * 4),
        ("y = Gemm<transA=1>(profile, profile)", 2 * 1 * 4 * 4),
        ("y = Softmax<axis=-1>(events)", 4 * N * 4),
        ("y = LayerNormalization(events, bias, bias)", 7 * N * 4),
        ("y = Add(events, bias)", N * 4),
        ("y = Greater(ids, two)", N),
        ("y = ReduceSum<keepdims=0>(events, one)", N * 4),
        ("y = Transpose<perm=[0,2,1]>(events)", 0),
        ("y = Gather(table, ids)", 0),
        ("y = Cast<to=1>(ids)", 0),
        ("y, h = GRU<hidden_size=3,layout=0>(events, gru_w, gru_r)", 2 * N * (9 * 4 + 9 * 3)),
    ],
)
def test_flops_of_operators(body: str, expected: int) -> None:
    """2 for a multiply-add, 1 for another operation on an element, nothing for moving data."""
    rng = np.random.default_rng(0)
    weights = {
        "bias": np.ones(4, np.float32),
        "gru_w": rng.standard_normal((1, 9, 4)).astype(np.float32),
        "gru_r": rng.standard_normal((1, 9, 3)).astype(np.float32),
    }
    assert flops(body, **weights) == expected


def test_flops_of_a_convolution() -> None:
    rng = np.random.default_rng(0)
    body = "t = Transpose<perm=[0,2,1]>(features) y = Conv<kernel_shape=[3],pads=[1,1]>(t, kernel)" + REST
    model = graph(body, kernel=rng.standard_normal((5, 4, 3)).astype(np.float32))
    assert flops_of_node(model.graph.node[1], analyzed(model)[0]).at(SIZES) == 2 * 5 * M * 4 * 3


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("bnd,de->bne", 2 * N * 4 * 4),
        ("bnd,bmd->bnm", 2 * N * M * 4),
        ("bnd,bmd->bnmd", N * M * 4),
        ("bnd->bn", N * 4),
        ("bnd->dnb", 0),
        ("...nd,...md->...nm", None),
    ],
)
def test_flops_of_sums_over_indices(equation: str, expected: int | None) -> None:
    """A multiply-add where products are added up, one operation where they are not; ellipses are not counted."""
    names = ["events", "w" if ",de" in equation else "features"][: equation.count(",") + 1]
    node = helper.make_node("Einsum", names, ["y"], "sum/Einsum", equation=equation)
    probe, _ = analyzed(graph("y = MatMul(events, w)" + REST))
    counted = Flops.of([node], probe)
    assert counted.uncounted == (("sum/Einsum",) if expected is None else ())
    assert counted.at(SIZES) == (expected or 0)


def test_unknown_operators_and_shapes_are_named_and_not_counted() -> None:
    model = graph(
        "[few] some = Slice(events, zero, two, one) [few] mapped = MatMul(some, w) [big] own = MatMul(features, w)"
        + REST
    )
    probe, _ = analyzed(model)
    with pytest.raises(UncountedError):
        flops_of_node(model.graph.node[1], probe)
    counted = Flops.of(model.graph.node, probe)
    assert counted.uncounted == ("few/MatMul_1",)
    assert counted.at({"history": N, "candidates": M}) == 2 * M * 4 * 4 + M * 4
    unknown = helper.make_node("ConvTranspose", ["events", "w"], ["own"], "up/ConvTranspose")
    assert Flops.of([unknown], probe) == Flops(Size.of(0), ("up/ConvTranspose",))


def test_bytes() -> None:
    model = graph("mask = Greater(ids, two) few = Slice(events, zero, two, one)" + REST)
    probe, _ = analyzed(model)
    assert bytes_of_tensor("mask", probe, SIZES) == N
    assert bytes_of_tensor("events", probe, SIZES) == 4 * N * 4
    assert bytes_of_tensor("ids", probe, {**SIZES, "batch": 3}) == 8 * N * 3
    assert bytes_of_tensor("few", probe, SIZES) == float("inf")
    assert weight_bytes(graph("y = MatMul(events, w)" + REST)) == 4 * 16 + 8


def test_flops_of_no_nodes() -> None:
    nothing = Flops.of(list[onnx.NodeProto](), Probe({}, {}, {}))
    assert (nothing.at({}), nothing.uncounted) == (0, ())
