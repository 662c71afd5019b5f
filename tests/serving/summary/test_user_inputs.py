from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cleave.builders.contract.signature import ServedAxis, ServedTensor, Signature
from cleave.builders.names import LEFT, RIGHT, SIGNATURE_PARAMETER, PaddingSide
from cleave.serving.errors import InputError, ModelError
from cleave.serving.summary.user_inputs import PaddedAxis, UserInput, UserInputs
from tests.serving.summary.summaries import USER_INPUTS, VISIT_PAD, history

CONFIG: dict[str, Any] = {
    "name": "toy_summary_cache",
    "input": [
        {"name": "user_id", "data_type": "TYPE_STRING", "dims": ["1"], "optional": True},
        {"name": "visits", "data_type": "TYPE_INT64", "dims": ["-1"], "optional": True},
        {"name": "weights", "data_type": "TYPE_FP32", "dims": ["-1"], "optional": True},
    ],
    "parameters": {
        SIGNATURE_PARAMETER: {
            "string_value": Signature(
                axes={"history": ServedAxis(1, 4, 4, (4,))},
                inputs={
                    "user_id": ServedTensor((), "user_id"),
                    "visits": ServedTensor(("history",), "user", VISIT_PAD),
                    "weights": ServedTensor(("history",), "user"),
                },
                outputs={},
            ).to_json()
        }
    },
}


def one(
    array: NDArray[Any], places: tuple[int, ...], side: PaddingSide = RIGHT
) -> tuple[UserInputs, dict[str, NDArray[Any]]]:
    padded = tuple(PaddedAxis(place, f"axis{place}", side) for place in places)
    return UserInputs({"x": UserInput(array.dtype, padded, 0)}), {"x": array}


def test_they_are_read_from_the_config() -> None:
    assert UserInputs.from_config(CONFIG) == USER_INPUTS


@pytest.mark.parametrize(
    ("published", "message"),
    [
        ("{", "parameter 'cleave_signature': expected JSON, got '{' "),
        ("{}", "parameter 'cleave_signature': axes: expected it, got none; build it again"),
        (Signature({}, {}, {}).to_json(), "input 'visits': expected it in the signature, got no input; build it again"),
    ],
)
def test_a_signature_that_cannot_be_used(published: str, message: str) -> None:
    config = {**CONFIG, "parameters": {SIGNATURE_PARAMETER: {"string_value": published}}}
    with pytest.raises(ModelError, match=f"^model 'toy_summary_cache': {re.escape(message)}"):
        UserInputs.from_config(config)


@given(st.lists(st.integers(0, 99), max_size=8), st.integers(0, 8))
def test_padding_does_not_change_the_digest(visits: list[int], fill: int) -> None:
    assert USER_INPUTS.digest(history(visits)) == USER_INPUTS.digest(history(visits, padded_to=len(visits) + fill))


@given(st.lists(st.integers(0, 3), max_size=4), st.lists(st.integers(0, 3), max_size=4))
def test_histories_have_one_digest_only_if_they_are_equal(one: list[int], other: list[int]) -> None:
    assert (USER_INPUTS.digest(history(one)) == USER_INPUTS.digest(history(other))) == (one == other)


def test_the_digest_sees_every_tensor() -> None:
    digests = {
        USER_INPUTS.digest(history([1, 2]) | {"weights": np.array(weights, np.float32)}) for weights in ([1, 1], [1, 2])
    }
    assert len(digests) == 2


def test_padding_in_the_middle_is_an_event_like_any_other() -> None:
    assert USER_INPUTS.digest(history([1, VISIT_PAD, 2])) != USER_INPUTS.digest(history([1, 2]))


@pytest.mark.parametrize(
    ("one_value", "other_value"),
    [
        (np.array([1, 2], np.int64), np.array([1, 2], np.int32)),
        (np.array([0.0, -0.0, 1.0], np.float32), np.array([0.0, 0.0, 1.0], np.float32)),
        (np.array([[1, 2]], np.int64), np.array([[1], [2]], np.int64)),
        (np.array([1.0, -0.0], np.float32), np.array([1.0], np.float32)),
        (np.array([1.0, np.nan], np.float32), np.array([1.0], np.float32)),
    ],
)
def test_what_differs_for_the_encoder_differs_in_the_digest(one_value: NDArray[Any], other_value: NDArray[Any]) -> None:
    places = tuple(range(one_value.ndim))
    cases = (one(value, places) for value in (one_value, other_value))
    assert len({user_inputs.digest(inputs) for user_inputs, inputs in cases}) == 2


def test_every_variable_axis_is_stripped_and_no_fixed_one() -> None:
    array = np.zeros((2, 4, 6), np.float32)
    array[0, 1, 2] = 1
    user_inputs, inputs = one(array, (1, 2))
    assert user_inputs.digest(inputs) == user_inputs.digest({"x": array[:, :2, :3]})
    assert user_inputs.digest(inputs) != user_inputs.digest({"x": array[:1, :2, :3]})


@given(st.lists(st.integers(0, 3), max_size=6), st.integers(0, 4))
def test_padding_on_the_left_does_not_change_the_digest(values: list[int], fill: int) -> None:
    longer = np.array([0] * fill + values, np.int64)
    user_inputs, inputs = one(np.array(values, np.int64), (0,), LEFT)
    assert user_inputs.digest(inputs) == user_inputs.digest({"x": longer})
    behind = np.array([*values, 1, 0], np.int64)
    assert user_inputs.digest({"x": behind}) != user_inputs.digest({"x": behind[:-1]})


def with_least(min_real: int, side: PaddingSide) -> UserInputs:
    axis = PaddedAxis(0, "history", side, min_real)
    return UserInputs({name: UserInput(np.dtype("int64"), (axis,), 0) for name in ("items", "ratings")})


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_a_user_with_fewer_rows_than_the_model_takes_is_refused(side: PaddingSide) -> None:
    def user(*real: int) -> NDArray[np.int64]:
        padding = [0] * (4 - len(real))
        return np.array([*padding, *real] if side == LEFT else [*real, *padding])

    user_inputs = with_least(2, side)
    user_inputs.check_real_rows({"items": user(5, 6), "ratings": user(1, 2)})
    user_inputs.check_real_rows({"items": user(5, 6), "ratings": user()})  # an event without a rating is one
    with_least(0, side).check_real_rows({"items": user(), "ratings": user()})
    with pytest.raises(InputError, match=r"^axis 'history': expected 2 or more rows that are not padding, got 1, for"):
        user_inputs.check_real_rows({"items": user(5), "ratings": user(1)})


def test_a_value_a_user_is_never_stripped() -> None:
    zero, one_ = (UserInputs({"x": UserInput(np.dtype("int64"), (), 0)}).digest({"x": np.array([v])}) for v in (0, 1))
    assert zero != one_
