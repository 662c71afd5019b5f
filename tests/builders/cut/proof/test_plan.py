"""What a proof tries: both sides of every bucket and of every number of the graph, and every mixture of axes."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cleave.builders import Axis, Ranker, Tensor
from cleave.builders.cut.proof.agreement import Referee
from cleave.builders.cut.proof.cases import CONSTANTS, CandidateList, Step, Users
from cleave.builders.cut.proof.plan import plan_of
from cleave.builders.cut.proof.subject import WHOLE, Subject
from cleave.builders.cut.proof.users import Lengths
from tests.builders.cut.proof.readers import CANDIDATES, HISTORY
from tests.builders.cut.proof.wrong_axes import LIKES, TwoHistories, two_histories


def subject(ranker: Ranker, constants: tuple[int, ...] = ()) -> Subject:
    served = {WHOLE: lambda inputs: inputs}
    return Subject(ranker, served, Referee(ranker), constants, lambda sizes: sum(sizes.values()))


def plan(ranker: Ranker, constants: tuple[int, ...] = ()) -> list[Step]:
    return plan_of(subject(ranker, constants), 0)


TWO = two_histories(TwoHistories())


def lengths(steps: list[Step], axis: Axis, required: bool | None = None) -> set[int]:
    return {
        user[axis.name]
        for step in steps
        if isinstance(step.case, Users) and required in (None, step.required)
        for user in step.case.lengths
    }


def lists(steps: list[Step], required: bool | None = None) -> set[int]:
    return {
        len(step.case.order)
        for step in steps
        if isinstance(step.case, CandidateList) and required in (None, step.required)
    }


@pytest.mark.parametrize("axis", [HISTORY, LIKES])
def test_both_sides_of_every_bucket_are_tried(axis: Axis) -> None:
    steps = plan(TWO)
    assert {0, 1, 2, axis.max} <= lengths(steps, axis, required=True)
    for bucket in axis.buckets:
        assert {bucket - 1, bucket} <= lengths(steps, axis)
        assert bucket == axis.max or bucket + 1 in lengths(steps, axis, required=True)


def test_lists_end_on_both_sides_of_every_bucket() -> None:
    for bucket in CANDIDATES.buckets:
        assert {bucket - 1, bucket, min(bucket + 1, CANDIDATES.max)} <= lists(plan(TWO), required=True)


@given(st.sets(st.integers(2, 400), max_size=6))
def test_both_sides_of_every_number_of_the_graph_are_tried(constants: set[int]) -> None:
    steps = plan(TWO, tuple(sorted(constants)))
    for number, beside in itertools.product(constants, (-1, 0, 1)):
        assert number > HISTORY.max or number + beside > HISTORY.max or number + beside in lengths(steps, HISTORY)
        assert number + beside in lists(steps)


def test_empty_partial_and_full_axes_meet() -> None:
    bucket = {axis.name: axis.buckets[0] for axis in (HISTORY, LIKES)}
    met = {
        tuple("full" if user[name] == size else "partial" if user[name] else "empty" for name, size in bucket.items())
        for step in plan(TWO)
        if isinstance(step.case, Users) and step.required
        for user in step.case.lengths
    }
    assert set(itertools.product(("empty", "partial", "full"), repeat=2)) <= met


def test_nobody_has_fewer_rows_than_an_axis_asks_for_or_more_than_it_holds() -> None:
    history = dataclasses.replace(HISTORY, min_real=3)
    tensor = Tensor("history_items", "int64", (history,))
    steps = plan(dataclasses.replace(TWO, user=(tensor, TWO.user[1])), (2, 150))
    assert min(lengths(steps, history)) == 3
    assert max(lengths(steps, history)) == history.max
    assert min(lists(steps)) == 1
    assert max(lists(steps, required=True)) == CANDIDATES.max + 1


def test_everybody_is_padded_to_what_a_server_takes() -> None:
    for step in plan(TWO):
        if isinstance(step.case, Users):
            for sizes, user in itertools.product(step.case.paddings, step.case.lengths):
                assert all(user[axis.name] <= sizes[axis.name] <= axis.max for axis in TWO.axes)


def test_users_without_axes_meet_others_all_the_same() -> None:
    profile = dataclasses.replace(TWO, module=nn.Identity(), user=(Tensor("profile", "float32", (4,)),))
    assert max(len(step.case.lengths) for step in plan(profile) if isinstance(step.case, Users)) > 1


def test_lists_come_in_other_orders_and_of_one_candidate_over_and_over() -> None:
    orders = [step.case.order for step in plan(TWO) if isinstance(step.case, CandidateList)]
    longest = [order for order in orders if len(order) == CANDIDATES.max]
    assert any(np.array_equal(order, np.arange(CANDIDATES.max)[::-1]) for order in longest)
    assert any(len(set(order.tolist())) == 1 for order in longest)
    assert any(order[0] > 0 and np.array_equal(order, np.arange(order[0], order[0] + len(order))) for order in orders)


def test_an_axis_may_ask_for_more_rows_than_the_smallest_bucket_holds() -> None:
    history = dataclasses.replace(HISTORY, min_real=40)
    steps = plan(dataclasses.replace(TWO, user=(Tensor("history_items", "int64", (history,)), TWO.user[1])))
    assert min(lengths(steps, history)) == 40


def test_long_users_are_fewer_in_a_batch() -> None:
    def work(sizes: Lengths) -> float:
        return float(sizes["history"] ** 2)

    steps = plan_of(dataclasses.replace(subject(TWO, tuple(range(150, 200))), work=work), 0)
    batches = {
        max(sizes["history"] for sizes in step.case.paddings): len(step.case.lengths)
        for step in steps
        if isinstance(step.case, Users) and step.kind == CONSTANTS
    }
    assert batches[HISTORY.max] == 2
