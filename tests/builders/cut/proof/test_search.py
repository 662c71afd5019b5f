"""The search for a wrong score: what serving breaks is refused, and what looks like it and is right is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cleave.builders import Ranker
from cleave.builders.contract.proof import Proof
from cleave.builders.cut.cut import cut_ranker
from cleave.builders.cut.proof.agreement import ParityError
from cleave.builders.cut.proof.prove import prove
from cleave.builders.cut.proof.search import search
from cleave.builders.user_code.failure import UserCodeError
from tests.builders.cut.proof import wrong_axes, wrong_histories, wrong_layers, wrong_lists
from tests.builders.cut.proof.readers import FromFunction, ListFromFunction, ranker_of
from tests.builders.cut.proof.subjects import subject_of_module

NO_HURRY_S = 300.0
"""However busy the machine is, no case is left out."""

Make = Callable[[], nn.Module]

WRONG: dict[str, tuple[Make, Callable[[nn.Module], Ranker]]] = {
    **{
        name: (make, ranker_of)
        for name, make in (wrong_histories.WRONG | wrong_layers.WRONG | wrong_lists.WRONG).items()
    },
    **{name: (make, wrong_axes.two_histories) for name, make in wrong_axes.WRONG.items()},
    **{name: (make, wrong_axes.with_session) for name, make in wrong_axes.WRONG_REQUESTS.items()},
    **{name: (make, wrong_axes.with_tags) for name, make in wrong_axes.WRONG_TAGS.items()},
    **{name: (make, wrong_axes.without_axes) for name, make in wrong_axes.WRONG_PROFILES.items()},
}
RIGHT: dict[str, tuple[Make, Callable[[nn.Module], Ranker]]] = {
    **{
        name: (make, ranker_of)
        for name, make in (wrong_histories.RIGHT | wrong_layers.RIGHT | wrong_lists.RIGHT).items()
    },
    **{name: (make, wrong_axes.two_histories) for name, make in wrong_axes.RIGHT.items()},
    **{name: (make, wrong_axes.with_session) for name, make in wrong_axes.RIGHT_REQUESTS.items()},
    **{name: (make, wrong_axes.with_tags) for name, make in wrong_axes.RIGHT_TAGS.items()},
    **{name: (make, wrong_axes.without_axes) for name, make in wrong_axes.RIGHT_PROFILES.items()},
}


def searched(make: Make, ranker: Callable[[nn.Module], Ranker]) -> Proof:
    torch.manual_seed(0)
    return search(subject_of_module(ranker(make())), budget_s=NO_HURRY_S)


@pytest.mark.parametrize("name", WRONG)
def test_what_serving_breaks_is_refused(name: str) -> None:
    with pytest.raises((ParityError, UserCodeError)):
        searched(*WRONG[name])


@pytest.mark.parametrize("name", RIGHT)
def test_what_serving_keeps_is_not_refused(name: str) -> None:
    proof = searched(*RIGHT[name])
    assert proof.left_out == {}
    assert proof.largest.get("history", 200) == 200
    assert proof.largest["candidates"] == 300


def message_of(name: str) -> str:
    with pytest.raises(ParityError) as raised:
        searched(*WRONG[name])
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "padding"),
    [("last_row", "from 1 to 2"), ("last_twenty", "from 1 to 21"), ("mean_beyond_sixteen", "from 17 to 18"),
     ("middling_histories", "from 140 to 150")],
)  # fmt: skip
def test_the_message_names_the_smallest_padding_that_changes_a_score(name: str, padding: str) -> None:
    assert message_of(name).startswith(f"ranker 'reader': axis 'history' padded {padding}: output 'scores' at [0, 0]: ")


@pytest.mark.parametrize(
    ("name", "size"), [("beyond_128", 129), ("beyond_137_mean", 138), ("by_a_window_of_sizes", 210), ("by_size", 101)]
)
def test_the_message_names_the_shortest_list_that_is_wrong(name: str, size: int) -> None:
    message = message_of(name)
    assert message.startswith(f"ranker 'reader': {size} candidates scored together against one by one: output 'scores'")
    assert f"; lists of {size - 1} are right; " in message


def test_the_message_tells_places_from_other_candidates() -> None:
    assert "place in the list; give candidates no positions" in message_of("place_in_the_list")
    assert "candidates see each other" in message_of("without_the_mean")


@pytest.mark.parametrize("name", ["last_row", "last_twenty", "place_from_the_end", "reversed_places"])
def test_a_model_that_is_right_with_padding_in_front_is_told_so(name: str) -> None:
    assert "write Axis('history', ..., padding_side='left'); or else mask rows" in message_of(name)


@pytest.mark.parametrize("name", ["mean_of_all", "relative_place", "steps", "halves"])
def test_no_other_model_is(name: str) -> None:
    assert "padding_side" not in message_of(name)


def test_the_message_names_another_user_of_the_batch() -> None:
    message = message_of("others_in_the_batch")
    assert message.startswith("ranker 'reader': a user (history ")
    assert message.endswith("users see each other; keep row i of every tensor that of user i")


def test_a_size_that_the_module_cannot_take_is_named() -> None:
    with pytest.raises(
        UserCodeError, match=r"wrong_layers.py:\d+: IndexError: .*called with history_items int64 \[1, 1\d\d\]"
    ):
        searched(*WRONG["ShortTable"])


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (FromFunction(wrong_histories.last_twenty), "axis 'history' padded from 1 to 21"),
        (FromFunction(wrong_histories.middling_histories), "axis 'history' padded from 14"),
        (ListFromFunction(wrong_lists.by_a_window_of_sizes), "210 candidates scored together"),
    ],
)
def test_numbers_that_a_model_goes_by_are_found_in_its_graph(module: nn.Module, message: str) -> None:
    with pytest.raises(ParityError, match=message):
        prove(cut_ranker(ranker_of(module)))


def test_time_that_is_up_ends_what_is_not_required_and_is_said() -> None:
    torch.manual_seed(0)
    subject = subject_of_module(ranker_of(FromFunction(wrong_histories.mean_of_the_real)))
    whole, hurried = search(subject, budget_s=NO_HURRY_S), search(subject, budget_s=0.0)
    assert hurried.largest == whole.largest
    assert 0 < hurried.num_users < whole.num_users
    assert 0 < hurried.num_lists < whole.num_lists
    assert len(hurried.lines()) == len(whole.lines()) + 1
    assert hurried.lines()[1].startswith("proof: not tried, as more than 0 s would have passed: ")


def test_the_same_cases_are_tried_each_time() -> None:
    torch.manual_seed(0)
    subject = subject_of_module(ranker_of(FromFunction(wrong_histories.mean_of_the_real)))
    first, second = (search(subject, budget_s=NO_HURRY_S) for _ in range(2))
    assert (first.num_users, first.num_lists, first.difference) == (
        second.num_users,
        second.num_lists,
        second.difference,
    )
