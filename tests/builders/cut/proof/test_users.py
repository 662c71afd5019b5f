"""Users as clients have them and as servers get them: what is padded can be found again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cleave.builders import Axis, Ranker, Tensor
from cleave.builders.cut.proof.users import (
    as_module_takes,
    draw_user,
    joined,
    lengths_of,
    padded,
    real_rows,
    shortened,
    with_candidates,
)
from cleave.builders.names import PADDING_SIDES, PaddingSide
from cleave.builders.onnx_graph.random_inputs import Arrays

CANDIDATES = Axis("candidates", min=1, opt=8, max=40)
AXES = ("events", "candidates", "tags")


def ranker(side: PaddingSide) -> Ranker:
    """An output for each candidate and each of its tags, so that what belongs to whom can be seen."""
    events = Axis("events", min=4, opt=8, max=40, padding_side=side)
    tags = Axis("tags", min=1, opt=4, max=10, padding_side=side)
    return Ranker(
        name="small",
        module=nn.Identity(),
        user=(Tensor("ids", "int64", (events,), pad=-1), Tensor("weights", "float32", (events, 3))),
        candidate=(Tensor("items", "int64", (CANDIDATES,)), Tensor("tags", "float32", (CANDIDATES, tags))),
        output=(Tensor("scores", "float32", (CANDIDATES, tags)),),
    )


def served(inputs: Arrays) -> Arrays:
    """Scores `[batch, candidates, tags]`."""
    users = (inputs["ids"] + 1).sum(1) + inputs["weights"].sum((1, 2))
    return {"scores": inputs["tags"] * (1 + inputs["items"][:, :, None]) + users[:, None, None]}


sizes = st.integers(0, 40)


@pytest.mark.parametrize("side", PADDING_SIDES)
@given(st.lists(st.tuples(sizes, st.integers(1, 40), st.integers(0, 10)), min_size=1, max_size=3))
def test_real_rows_are_those_of_the_user_alone(side: PaddingSide, lengths: list[tuple[int, int, int]]) -> None:
    of = ranker(side)
    users = [draw_user(of, dict(zip(AXES, each, strict=True)), place) for place, each in enumerate(lengths)]
    batch = joined([padded(of, user, {"events": 40, "candidates": 40, "tags": 10}) for user in users])
    assert batch["tags"].shape == (len(users), 40, 10)
    for row, user in enumerate(users):
        got = real_rows(of, served(batch), row, lengths_of(of, user))
        np.testing.assert_allclose(got["scores"], served(user)["scores"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", PADDING_SIDES)
@given(sizes)
def test_the_module_gets_no_padding_but_what_the_axis_asks_for(side: PaddingSide, length: int) -> None:
    user = draw_user(of := ranker(side), {"events": length, "candidates": 2, "tags": 3}, 0)
    taken = as_module_takes(of, user)
    assert lengths_of(of, taken) == {"events": max(4, length), "candidates": 2, "tags": 3}
    assert (taken["ids"] == -1).sum() == max(0, 4 - length)


@pytest.mark.parametrize("side", PADDING_SIDES)
def test_who_is_shortened_keeps_the_rows_away_from_the_padding(side: PaddingSide) -> None:
    user = draw_user(of := ranker(side), {"events": 9, "candidates": 5, "tags": 2}, 0)
    short = shortened(of, user, {"events": 4})
    kept = slice(5, 9) if side == "left" else slice(4)
    np.testing.assert_array_equal(short["ids"], user["ids"][:, kept])
    assert lengths_of(of, short) == {"events": 4, "candidates": 5, "tags": 2}


def test_a_user_is_the_same_each_time_and_another_for_another_seed() -> None:
    of, lengths = ranker("right"), {"events": 9, "candidates": 5, "tags": 2}
    first, again, other = (draw_user(of, lengths, *seed)["tags"] for seed in ((0, 1), (0, 1), (0, 2)))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_candidates_are_taken_in_order() -> None:
    user = draw_user(of := ranker("right"), {"events": 3, "candidates": 5, "tags": 2}, 0)
    np.testing.assert_array_equal(with_candidates(of, user, np.array([3, 0, 3]))["items"], user["items"][:, [3, 0, 3]])
    assert with_candidates(of, user, slice(2))["weights"] is user["weights"]
