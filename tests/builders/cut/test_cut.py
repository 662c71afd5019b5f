"""The cut of graphs written by hand: what is kept, what is repeated, and what cannot be cut."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from cleave.builders.cut.cut import Cut, split
from cleave.builders.cut.min_cut import SplitError
from cleave.builders.cut.subgraph import ExtractError
from cleave.builders.errors import BuilderError
from cleave.builders.predict.arms import flops_of_arms
from tests.builders.graphs import WIDTH, assert_parts_equal_whole, draw, graph, ops, ranker

READ = """
    weights = MatMul(features, transposed)
    read = MatMul(weights, keys)
    joined = Mul(read, features)
    scores = ReduceSum<keepdims=0>(joined, last)
"""
"""Candidates read `keys` [B, N, D] by way of `transposed` [B, D, N]."""

DOT = """
    row = Unsqueeze(vector, one)
    joined = Mul(row, features)
    scores = ReduceSum<keepdims=0>(joined, last)
"""
"""Candidates meet `vector` [B, D]."""


def cut(body: str, boundary: tuple[str, ...] = (), **weights: NDArray[Any]) -> Cut:
    made = split(graph(body, **weights), ranker(boundary))
    assert_parts_equal_whole(made)
    return made


def kept(made: Cut) -> dict[str, list[str]]:
    """Name, type and shape of each tensor that is kept, without the axes of size 1 that cost nothing."""
    return {
        tensor.name: [tensor.dtype, *(str(size) for size in tensor.dims if str(size) != "1")] for tensor in made.summary
    }


def test_what_depends_on_the_user_alone_is_in_the_encoder() -> None:
    made = cut("[query] user = MatMul(profile, w) vector = Tanh(user)" + DOT)
    assert kept(made) == {"query": ["float32", "batch", "4"]}
    assert {"MatMul", "Tanh"} <= set(ops(made.history_encoder))
    assert {"Mul", "ReduceSum"} <= set(ops(made.candidate_scorer)) <= {"Mul", "ReduceSum", "Unsqueeze"}


def test_two_forms_of_one_tensor_are_kept_once() -> None:
    made = cut("[key] keys = MatMul(events, w) transposed = Transpose<perm=[0,2,1]>(keys)" + READ)
    assert kept(made) == {"key": ["float32", "batch", "history", "4"]}


def test_the_smaller_side_of_a_cast_is_kept() -> None:
    made = cut(
        """
        positive = Greater(events, quarter)
        real = Cast<to=1>(positive)
        vector = ReduceSum<keepdims=0>(real, one)
        transposed = Transpose<perm=[0,2,1]>(real)
        weights = MatMul(features, transposed)
        scores = ReduceSum<keepdims=0>(weights, last)
    """,
        quarter=np.array(0.25, np.float32),
    )
    assert kept(made) == {"events_mask": ["bool", "batch", "history", "4"]}


def test_the_smaller_side_of_a_concat_is_kept() -> None:
    made = cut("""
        keys = MatMul(events, w)
        twice = Concat<axis=1>(keys, keys, keys)
        transposed = Transpose<perm=[0,2,1]>(twice)
        weights = MatMul(features, transposed)
        scores = ReduceSum<keepdims=0>(weights, last)
    """)
    assert list(kept(made).values()) == [["float32", "batch", "history", "4"]]


def test_the_smaller_side_of_a_sum_is_kept() -> None:
    made = cut("rows = MatMul(events, w) vector = ReduceSum<keepdims=0>(rows, one)" + DOT)
    assert list(kept(made).values()) == [["float32", "batch", "4"]]


def test_products_are_kept_even_where_they_are_larger_than_what_they_are_made_of() -> None:
    made = cut(
        """
        wide = MatMul(profile, wide_weight)
        row = Unsqueeze(wide, one)
        mapped = MatMul(features, wide_weight)
        joined = Mul(row, mapped)
        scores = ReduceSum<keepdims=0>(joined, last)
    """,
        wide_weight=np.ones((WIDTH, 64), np.float32),
    )
    assert list(kept(made).values()) == [["float32", "batch", "64"]]


def test_cheap_work_is_repeated_where_that_keeps_fewer_bytes() -> None:
    made = cut("""
        looked_up = Gather(table, ids)
        transposed = Transpose<perm=[0,2,1]>(looked_up)
        weights = MatMul(features, transposed)
        scores = ReduceSum<keepdims=0>(weights, last)
    """)
    assert kept(made) == {"kept_ids": ["int64", "batch", "history"]}
    assert ops(made.history_encoder) == ["Identity"]


def test_several_tensors_are_kept() -> None:
    made = cut("""
        [key] keys = MatMul(events, w)
        transposed = Transpose<perm=[0,2,1]>(keys)
        [first] a = MatMul(profile, w)
        row = Unsqueeze(a, one)
        moved = Add(features, row)
        weights = MatMul(moved, transposed)
        scores = ReduceSum<keepdims=0>(weights, last)
    """)
    assert sorted(kept(made)) == ["first", "key"]


def test_names_of_the_summary_are_unique() -> None:
    made = cut("""
        [layer] a = MatMul(profile, w)
        [layer] b = MatMul(a, w)
        one_row = Unsqueeze(a, one)
        other_row = Unsqueeze(b, one)
        moved = Add(features, one_row)
        joined = Mul(moved, other_row)
        scores = ReduceSum<keepdims=0>(joined, last)
    """)
    assert sorted(kept(made)) == ["layer", "layer_2"]


def test_a_summary_may_be_called_as_no_input_is() -> None:
    made = cut("[hour] vector = MatMul(profile, w)" + DOT)
    assert list(kept(made)) == ["hour_2"]


def test_what_both_sides_read_is_computed_once() -> None:
    made = cut(
        """
        real = Greater(ids, two)
        column = Unsqueeze(real, last)
        factor = Cast<to=1>(column)
        [key] product = MatMul(events, w)
        keys = Mul(product, factor)
        transposed = Transpose<perm=[0,2,1]>(keys)
        weights = MatMul(features, transposed)
        mask = Unsqueeze(real, one)
        masked = Where(mask, weights, lowest)
        shares = Softmax<axis=-1>(masked)
        read = MatMul(shares, keys)
        scores = ReduceSum<keepdims=0>(read, last)
    """,
        lowest=np.array(-1e38, np.float32),
    )
    assert kept(made) == {"ids_mask": ["bool", "batch", "history"], "key": ["float32", "batch", "history", "4"]}


def test_what_joins_user_and_request_is_in_the_scorer() -> None:
    made = cut("[user] of_user = MatMul(profile, w) [mix] vector = Add(of_user, hour)" + DOT)
    assert list(kept(made)) == ["user"]


def test_a_tensor_with_the_size_of_another_role_does_not_depend_on_its_data() -> None:
    made = cut(
        """
        [user] of_user = MatMul(profile, w)
        batch = Shape<start=0,end=1>(items)
        shape = Concat<axis=0>(batch, four)
        vector = Reshape(of_user, shape)
    """
        + DOT,
        four=np.array([4]),
    )
    assert list(kept(made)) == ["user"]
    assert not any("Shape" in node.op_type for node in made.history_encoder.graph.node)


def test_what_is_repeated_for_every_candidate_is_kept_once() -> None:
    made = cut("""
        [user] of_user = MatMul(profile, w)
        row = Unsqueeze(of_user, one)
        shape = Shape(features)
        spread = Expand(row, shape)
        joined = Mul(spread, features)
        scores = ReduceSum<keepdims=0>(joined, last)
    """)
    assert kept(made) == {"user": ["float32", "batch", "4"]}


def test_the_named_boundary_is_kept() -> None:
    body = """
        [encoder] keys = Tanh(events)
        [key] mapped = MatMul(keys, w)
        transposed = Transpose<perm=[0,2,1]>(mapped)
    """ + READ.replace("(weights, keys)", "(weights, mapped)")
    assert list(kept(cut(body))) == ["key"]
    made = cut(body, boundary=("encoder",))
    assert kept(made) == {"encoder": ["float32", "batch", "history", "4"]}
    assert ops(made.history_encoder) == ["Tanh"]


def test_a_boundary_that_reads_more_than_the_user_is_refused() -> None:
    body = "[encoder] mapped = MatMul(features, w) keys = MatMul(events, w) transposed = Transpose<perm=[0,2,1]>(keys)"
    with pytest.raises(
        SplitError, match="boundary 'encoder' has no output that depends on the user alone; name a submo"
    ):
        cut(body + READ.replace("(features,", "(mapped,"), boundary=("encoder",))


def test_users_that_do_not_reach_an_output_are_refused() -> None:
    expected = (
        "ranker 'small': no user input (ids, events, profile) reaches an output, expected scores to depend on the "
        "user; correct the roles, or serve the model without cleave"
    )
    with pytest.raises(SplitError, match=re.escape(expected)):
        cut("scores = ReduceSum<keepdims=0>(features, last)")


def test_only_the_size_of_the_history_is_no_dependence_on_the_user() -> None:
    with pytest.raises(SplitError, match="no user input"):
        cut("""
            count = Shape<start=1,end=2>(ids)
            as_float = Cast<to=1>(count)
            scaled = Mul(features, as_float)
            scores = ReduceSum<keepdims=0>(scaled, last)
        """)


def test_a_scorer_that_needs_a_size_that_is_not_kept_is_refused() -> None:
    expected = (
        "small_candidate_scorer: count reads the size of axis 'history', expected one of its inputs (query, hour, "
        "items, features) to have that axis; if a score depends on that size, padding changes it"
    )
    with pytest.raises(ExtractError, match=re.escape(expected)):
        cut("""
            [query] user = MatMul(profile, w)
            row = Unsqueeze(user, one)
            joined = Mul(row, features)
            count = Shape<start=1,end=2>(ids)
            as_float = Cast<to=1>(count)
            summed = ReduceSum<keepdims=0>(joined, last)
            scores = Div(summed, as_float)
        """)


def test_a_sequence_before_the_batch_is_kept_with_the_batch_first() -> None:
    made = cut("""
        turned = Transpose<perm=[1,0,2]>(events)
        [key] mapped = MatMul(turned, w)
        keys = Transpose<perm=[1,2,0]>(mapped)
        once = Tanh(mapped)
        weights = MatMul(features, keys)
        summed = ReduceSum<keepdims=0>(once, zero)
        row = Unsqueeze(summed, one)
        joined = Mul(features, row)
        a = ReduceSum<keepdims=0>(joined, last)
        b = ReduceSum<keepdims=0>(weights, last)
        scores = Add(a, b)
    """)
    assert all(shape[1] == "batch" for shape in kept(made).values())


@pytest.mark.parametrize("perm", ["[1,0,2]", "[1,2,0]"])
def test_the_only_form_of_a_tensor_is_kept_wherever_its_batch_is(perm: str) -> None:
    made = cut(f"""
        turned = Transpose<perm=[1,0,2]>(events)
        [key] mapped = MatMul(turned, w)
        [head] other = MatMul(mapped, w)
        form = Transpose<perm={perm}>(other)
        turned_items = Transpose<perm={perm}>(features)
        newest = Slice(other, zero, one, zero)
        turned_rows = Transpose<perm=[1,0,2]>(newest)
        joined = Mul(turned_rows, features)
        of_history = ReduceMax<keepdims=0>(other, zero)
        row = Unsqueeze(of_history, one)
        both = Mul(joined, row)
        scores = ReduceSum<keepdims=0>(both, last)
    """)
    assert all(shape[1] == "batch" for shape in kept(made).values())


def test_a_batch_behind_everything_else_is_put_first() -> None:
    made = cut(
        """
        profile_columns = Transpose<perm=[1,0]>(profile)
        [key] mapped = MatMul(w, profile_columns)
        cube = Reshape(mapped, cube_shape)
        feature_columns = Transpose<perm=[1,2,0]>(features)
        m = Shape<start=1,end=2>(features)
        target = Concat<axis=0>(m, two, two, last)
        feature_cubes = Reshape(feature_columns, target)
        joined = Mul(feature_cubes, cube)
        sums = ReduceSum<keepdims=0>(joined, inner)
        scores = Transpose<perm=[1,0]>(sums)
    """,
        cube_shape=np.array([2, 2, -1]),
        inner=np.array([1, 2]),
    )
    assert kept(made) == {"key": ["float32", "batch", "2", "2"]}
    assert [tensor.source for tensor in made.summary] == ["cube"]


def test_products_for_every_candidate_are_not_the_users() -> None:
    """What is made of the user alone but as often as there are candidates is no part of a summary."""
    made = cut("""
        [user] of_user = MatMul(profile, w)
        row = Unsqueeze(of_user, one)
        shape = Shape(features)
        spread = Expand(row, shape)
        [wide] mapped = MatMul(spread, w)
        joined = Mul(mapped, features)
        scores = ReduceSum<keepdims=0>(joined, last)
    """)
    assert kept(made) == {"user": ["float32", "batch", "4"]}


def test_heads_inside_the_batch_are_kept_user_by_user() -> None:
    """As `nn.MultiheadAttention` has it: [B * heads, N, D / heads]."""
    made = cut(
        """
        n = Shape<start=1,end=2>(events)
        m = Shape<start=1,end=2>(features)
        rows_n = Concat<axis=0>(last, n, two)
        rows_m = Concat<axis=0>(last, m, two)
        heads_m = Concat<axis=0>(last, two, m)
        [key] mapped = MatMul(events, w)
        heads = Reshape(mapped, apart)
        heads_first = Transpose<perm=[0,2,1,3]>(heads)
        keys = Reshape(heads_first, rows_n)
        [query] queries = MatMul(features, w)
        query_heads = Reshape(queries, apart)
        query_first = Transpose<perm=[0,2,1,3]>(query_heads)
        query_rows = Reshape(query_first, rows_m)
        transposed = Transpose<perm=[0,2,1]>(keys)
        weights = MatMul(query_rows, transposed)
        shares = Softmax<axis=-1>(weights)
        read = MatMul(shares, keys)
        summed = ReduceSum<keepdims=0>(read, last)
        per_head = Reshape(summed, heads_m)
        scores = ReduceSum<keepdims=0>(per_head, one)
    """,
        apart=np.array([0, -1, 2, 2]),
    )
    assert kept(made) == {"key": ["float32", "batch", "2", "history", "2"]}


def test_users_and_rows_in_one_axis_are_refused() -> None:
    """Of a product of [B * N, D], nothing is a user's alone."""
    with pytest.raises(SplitError) as raised:
        cut(
            """
            flat = Reshape(events, flat_shape)
            [key] mapped = MatMul(flat, w)
            square = MatMul(mapped, w)
            gram = ReduceSum<keepdims=1>(square, zero)
            joined = Mul(features, gram)
            scores = ReduceSum<keepdims=0>(joined, last)
        """,
            flat_shape=np.array([-1, WIDTH]),
        )
    assert "cannot be kept apart: gram ['1', '4']; expected tensors of one row per user; keep the batch" in str(
        raised.value
    )


def test_a_shape_that_depends_on_data_is_data() -> None:
    """The number of real events: no function of the axes, and of the user alone."""
    made = cut("""
        real = Greater(ids, two)
        places = NonZero(real)
        shape = Shape<start=1,end=2>(places)
        count = Cast<to=1>(shape)
        [user] of_user = MatMul(profile, w)
        joined_user = Mul(of_user, count)
        spread = Unsqueeze(joined_user, one)
        joined = Mul(spread, features)
        scores = ReduceSum<keepdims=0>(joined, last)
    """)
    assert list(kept(made)) == ["user"]
    assert "NonZero" in ops(made.history_encoder)


def test_the_first_mix_names_node_module_and_inputs() -> None:
    made = cut("[query] vector = MatMul(profile, w)" + DOT.replace("joined = Mul", "[pair] joined = Mul"))
    mix = made.first_mix
    assert mix is not None
    assert (mix.node, mix.op, mix.module) == ("pair/Mul_2", "Mul", "pair")
    assert (mix.user_inputs, mix.candidate_inputs) == (("profile",), ("features",))


def test_flops_are_those_of_the_parts() -> None:
    made = cut(
        """
        [user] vector = MatMul(profile, w)
        [item] mapped = MatMul(features, w)
    """
        + DOT.replace("features", "mapped")
    )
    sizes = {"history": 6, "candidates": 5}
    per_candidate = 2 * WIDTH * WIDTH
    assert {part: flops.at(sizes) for part, flops in made.flops.items()} == {
        "whole": per_candidate + 5 * (per_candidate + 2 * WIDTH),
        "history_encoder": per_candidate,
        "candidate_scorer": 5 * (per_candidate + 2 * WIDTH),
    }
    assert made.item_tower.at(sizes) == 5 * per_candidate
    arms = flops_of_arms(made, sizes)
    assert arms["per_candidate"] == 5 * (2 * per_candidate + 2 * WIDTH)
    assert arms["single_pass"] == arms["uncached"] == made.flops["whole"].at(sizes)
    assert arms["cached"] == arms["uncached"] - per_candidate
    assert made.summary_bytes(sizes) == 4 * WIDTH


def test_parts_are_valid_and_named_after_the_ranker() -> None:
    made = cut("[query] vector = MatMul(profile, w)" + DOT)
    for part, name in (
        (made.history_encoder, "small_history_encoder"),
        (made.candidate_scorer, "small_candidate_scorer"),
    ):
        onnx.checker.check_model(part, full_check=True)
        assert part.graph.name == name
    assert [entry.name for entry in made.history_encoder.graph.input] == ["ids", "events", "profile"]
    assert [entry.name for entry in made.candidate_scorer.graph.input] == ["query", "hour", "items", "features"]
    (summary,) = made.history_encoder.graph.output
    assert [dim.dim_param or dim.dim_value for dim in summary.type.tensor_type.shape.dim] == ["batch", 1, 4]


def test_errors_of_the_cut_are_errors_of_the_build() -> None:
    assert issubclass(SplitError, BuilderError)
    assert issubclass(ExtractError, BuilderError)
    assert draw(1, 1, 1).keys() == {tensor.name for tensor in ranker().inputs}
