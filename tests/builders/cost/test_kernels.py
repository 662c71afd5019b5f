"""Which nodes share a kernel, and what a kernel reads and writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cleave.builders.cost.kernels import KernelSet, kernels_from_nodes
from tests.builders.graphs import analyzed, graph

N, M = 6, 5
SIZES = {"batch": 1, "history": N, "candidates": M}


def part(body: str, **weights: NDArray[Any]) -> KernelSet:
    model = graph(body, **weights)
    return kernels_from_nodes(model.graph.node, ["scores"], model, analyzed(model)[0])


def nodes(found: KernelSet) -> list[list[str]]:
    return [[name.rpartition("/")[2].rpartition("_")[0] for name in kernel.nodes] for kernel in found.spelled_out]


def test_operators_on_elements_join_the_kernel_of_their_input() -> None:
    found = part("""
        mapped = MatMul(features, w)
        biased = Add(mapped, bias)
        active = Gelu(biased)
        scores = ReduceSum<keepdims=0>(active, last)
    """, bias=np.ones(4, np.float32))  # fmt: skip
    assert nodes(found) == [["MatMul", "Add", "Gelu"], ["ReduceSum"]]
    product, total = found.spelled_out
    assert product.matrix_flops.at(SIZES) == 2 * M * 4 * 4
    assert product.vector_flops.at(SIZES) == 2 * M * 4
    assert product.weights == 4 * 4 + 4
    assert product.activation_bytes(SIZES, 4) == 4 * (M * 4 + M * 4)
    assert total.activation_bytes(SIZES, 4) == 4 * (M * 4 + M)
    assert total.activation_bytes(SIZES, 2) == 2 * (M * 4 + M)
    assert found.weight_bytes == 4 * (4 * 4 + 4) + 8


def test_what_others_read_is_written() -> None:
    found = part("""
        mapped = MatMul(features, w)
        active = Gelu(mapped)
        joined = Add(active, mapped)
        scores = ReduceSum<keepdims=0>(joined, last)
    """)
    assert nodes(found) == [["MatMul"], ["Gelu", "Add"], ["ReduceSum"]]
    assert found.spelled_out[1].activation_bytes(SIZES, 4) == 4 * 2 * M * 4


def test_broadcasting_does_not_join() -> None:
    found = part("""
        column = Unsqueeze(profile, one)
        both = Mul(features, column)
        wide = Expand(column, shape)
        more = Add(wide, both)
        scores = ReduceSum<keepdims=0>(more, last)
    """, shape=np.array([1, 1, 1]))  # fmt: skip
    assert nodes(found) == [["Mul", "Add"], ["Expand"], ["ReduceSum"]]


def test_views_shapes_and_constants_cost_nothing() -> None:
    found = part("""
        doubled = Add(w, w)
        sizes = Shape(features)
        same = Reshape(features, sizes)
        mapped = MatMul(same, doubled)
        scores = ReduceSum<keepdims=0>(mapped, last)
    """)
    assert nodes(found) == [["MatMul"], ["ReduceSum"]]
    assert found.spelled_out[0].activation_bytes(SIZES, 4) == 4 * (4 * 4 + 2 * M * 4)


def test_of_a_table_only_the_rows_looked_up_are_read() -> None:
    found = part("rows = Gather(table, items) scores = ReduceSum<keepdims=0>(rows, last)")
    looked_up, _ = found.spelled_out
    assert looked_up.floats.at(SIZES) == 2 * M * 4
    assert looked_up.other_bytes.at(SIZES) == 8 * M
    assert looked_up.weights == 0
    assert found.weight_bytes == 4 * 10 * 4 + 8


@pytest.mark.parametrize("batch", [1, 3])
def test_weights_are_read_once_for_a_batch(batch: int) -> None:
    (product, _) = part("mapped = MatMul(features, w) scores = ReduceSum<keepdims=0>(mapped, last)").spelled_out
    assert product.weights == 16
    assert product.activation_bytes({**SIZES, "batch": batch}, 4) == batch * 4 * 2 * M * 4


def test_unknown_work_is_named() -> None:
    found = part("""
        [few] some = Slice(events, zero, two, one)
        [few] mapped = MatMul(some, w)
        [few] vector = ReduceSum<keepdims=1>(mapped, one)
        joined = Mul(features, vector)
        scores = ReduceSum<keepdims=0>(joined, last)
    """)
    assert found.uncounted == ("few/Slice_0", "few/MatMul_1", "few/ReduceSum_2")
    assert nodes(found) == [["Mul"], ["ReduceSum"]]


def test_attention_is_one_kernel_where_an_engine_has_one() -> None:
    found = part("""
        keys = Transpose<perm=[0,2,1]>(events)
        weights = MatMul(features, keys)
        scaled = Mul(weights, half)
        attention = Softmax<axis=-1>(scaled)
        read = MatMul(attention, events)
        scores = ReduceSum<keepdims=0>(read, last)
    """, half=np.array(0.5, np.float32))  # fmt: skip
    assert nodes(found) == [["Transpose"], ["MatMul", "Mul"], ["Softmax"], ["MatMul"], ["ReduceSum"]]
    transposed, attention, total = found.with_attention
    assert len(attention.nodes) == 4
    assert attention.matrix_flops.at(SIZES) == 2 * 2 * M * N * 4
    assert attention.activation_bytes(SIZES, 4) == 4 * (M * 4 + N * 4 + N * 4 + M * 4)
    assert (transposed, total) == (found.spelled_out[0], found.spelled_out[-1])
