from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cleave.serving.errors import InputError
from cleave.serving.summary.keys import Keys
from cleave.serving.summary.request import Summary, lookups_from_inputs, outputs_from_summaries
from tests.serving.summary.summaries import (
    BUILD,
    FORMAT,
    KEYS,
    OTHER_BUILD,
    USER_INPUTS,
    Arrays,
    history,
    lookup,
    summary_of,
)


def ids(*user_ids: bytes) -> Arrays:
    return {"user_id": np.array([[user_id] for user_id in user_ids], object)}


def batch(*visits: list[int]) -> Arrays:
    users = [history(each) for each in visits]
    return {name: np.stack([user[name] for user in users]) for name in users[0]}


def test_each_row_is_a_user() -> None:
    first, second = lookups_from_inputs(ids(b"ann", b"bob") | batch([1, 2], [3, 4]), USER_INPUTS, KEYS)
    assert (first.user_id, second.user_id) == (b"ann", b"bob")
    assert first.key != second.key
    assert first.digest != second.digest
    assert second.inputs is not None
    np.testing.assert_array_equal(second.inputs["visits"], [3, 4])


def test_a_user_without_an_id_is_kept_under_the_digest() -> None:
    for user_id in (None, b""):
        given = {} if user_id is None else ids(user_id)
        (user,) = lookups_from_inputs(given | batch([1, 2]), USER_INPUTS, KEYS)
        assert user.key == KEYS.of_digest(USER_INPUTS.digest(history([1, 2])))


def test_no_id_can_be_taken_for_a_digest_or_for_another_build() -> None:
    digest = USER_INPUTS.digest(history([1]))
    assert KEYS.of_user(digest.hex().encode()) != KEYS.of_digest(digest)
    assert Keys("toy", BUILD).of_user(b"ann") != Keys("toy", OTHER_BUILD).of_user(b"ann")


def test_a_user_by_id_alone_has_no_inputs() -> None:
    user = lookup("ann")
    assert (user.by, user.inputs, user.digest) == ("id", None, None)
    assert lookup("ann", [1]).by == "inputs"
    assert lookup("ann", [1]).key == user.key


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"input 'user_id': expected a user id or the user inputs \(visits, weights\), got neither; send one"),
        (ids(b"ann", b""), "input 'user_id': expected a user id or the user inputs"),
        (ids(b"ann") | {"visits": np.array([[1]])}, "input 'weights': expected all of visits, weights or none of them"),
        (ids(b"x" * 513), "input 'user_id': expected at most 512 bytes, got 513; send a shorter id"),
    ],
)
def test_what_is_missing_is_said(inputs: Arrays, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lookups_from_inputs(inputs, USER_INPUTS, KEYS)


@pytest.mark.parametrize(
    ("visits", "got"),
    [(np.array([1, 2]), r"\[2\]"), (np.zeros((2, 3, 1), np.int64), r"\[2, 3, 1\]"), (np.array([[1]]), r"\[1, 1\]")],
)
def test_other_axes_than_the_model_has_are_refused(visits: Any, got: str) -> None:
    inputs = ids(b"ann", b"bob") | batch([1, 2], [3, 4]) | {"visits": visits}
    with pytest.raises(InputError, match=f"input 'visits': expected 2 users with 1 axes each, got shape {got}; send"):
        lookups_from_inputs(inputs, USER_INPUTS, KEYS)


def test_an_id_may_be_any_bytes() -> None:
    (user,) = lookups_from_inputs(ids(b"\xff\x00"), USER_INPUTS, KEYS)
    assert user.key.endswith(b":\xff\x00")
    assert user.user == r"'\\xff\x00'"


def test_summaries_are_joined_in_order() -> None:
    summaries = [Summary(summary_of(history([value])), "hit" if value else "miss", 0.0) for value in (5, 0)]
    outputs = outputs_from_summaries(summaries, FORMAT)
    np.testing.assert_array_equal(outputs["sums"], [[5, 1], [0, 1]])
    assert outputs["mask"].shape == (2, 1, 1)
    assert outputs["summary_status"].tolist() == [[b"hit"], [b"miss"]]
