from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from cleave.clients.errors import InvalidRequestError
from cleave.clients.signature import signature_from_served
from cleave.clients.validation import array_from_value, arrays_for_infer, arrays_for_rank
from tests.clients.fake_triton import MAX_BATCH, MAX_HISTORY
from tests.clients.fake_triton import SIGNATURE as TOY
from tests.clients.toy import arguments, served, signature

SIGNATURE = signature()

FEATURES = np.ones((2, 3), np.float32)


def changed(role: str, **tensors: Any) -> dict[str, Any]:
    given_arguments = arguments(2, 3)
    return given_arguments | {role: given_arguments[role] | tensors}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "missing role": (
        arguments(2, 3) | {"history": None},
        "toy_uncached: history: expected visits, visit_weights, got nothing; add visits, visit_weights",
    ),
    "missing tensor": (
        arguments(2, 3) | {"history": {"visits": [1]}},
        "toy_uncached: history: expected visits, visit_weights, got visits; add visit_weights",
    ),
    "unknown tensor": (
        changed("candidates", item=[1]),
        "toy_uncached: candidates: unknown tensor 'item', expected items, features; remove it or correct its name",
    ),
    "tensor of another role": (
        changed("candidates", hour=1),
        "toy_uncached: candidates: unknown tensor 'hour', expected items, features; give it in request",
    ),
    "bare array for two tensors": (
        arguments(2, 3) | {"candidates": [1, 2]},
        "toy_uncached: candidates: expected a mapping with items, features, got list; name each tensor",
    ),
    "float for integer": (
        changed("candidates", items=[1.0, 2.0]),
        "toy_uncached: candidates: items: type: expected int64, got float64; convert it",
    ),
    "integer for float": (
        changed("candidates", features=np.ones((2, 3), np.int64)),
        "toy_uncached: candidates: features: type: expected float32, got int64; convert it",
    ),
    "bool for integer": (
        changed("candidates", items=[True, False]),
        "toy_uncached: candidates: items: type: expected int64, got bool; convert it",
    ),
    "text": (
        changed("candidates", items=["1", "2"]),
        "toy_uncached: candidates: items: type: expected int64, got <U1; convert it",
    ),
    "ragged": (
        changed("candidates", features=[[1.0], [1.0, 2.0]]),
        "toy_uncached: candidates: features: this is no array",
    ),
    "too large an integer": (
        changed("request", hour=200),
        "toy_uncached: request: hour: expected values from -128 to 127 (int8), got 200 to 200; correct the values",
    ),
    "integer of no type": (
        changed("request", hour=2**70),
        "toy_uncached: request: hour: type: expected int8, got object; convert it",
    ),
    "rank": (
        changed("candidates", items=[[1, 2]]),
        "toy_uncached: candidates: items: shape: expected [candidates], got [1, 2]; reshape it",
    ),
    "scalar as array": (
        changed("request", hour=[3]),
        "toy_uncached: request: hour: shape: expected [], got [1]; reshape it",
    ),
    "fixed size": (
        changed("candidates", features=np.ones((2, 4), np.float32)),
        "toy_uncached: candidates: features: shape: expected [candidates, 3], got [2, 4]; reshape it",
    ),
    "NaN": (
        changed("candidates", features=FEATURES * [[1.0, 1.0, 1.0], [1.0, np.nan, 1.0]]),
        "toy_uncached: candidates: features: expected finite float32 numbers, got nan at [1, 1]; correct it",
    ),
    "infinity": (
        changed("history", visit_weights=[0.0, -np.inf, 0.0]),
        "toy_uncached: history: visit_weights: expected finite float32 numbers, got -inf at [1]; correct it",
    ),
    "too large a float": (
        changed("history", visit_weights=[0.0, 0.0, 1e300]),
        "toy_uncached: history: visit_weights: expected finite float32 numbers, got inf at [2]; correct it",
    ),
    "lengths that differ": (
        changed("history", visits=[1, 2]),
        "toy_uncached: axis history: expected one length, got 2 in visits and 3 in visit_weights; "
        "give every tensor of the axis the same length",
    ),
    "no candidates": (
        arguments(0, 3),
        "toy_uncached: candidates: expected at least 1, got none; skip the call",
    ),
    "empty lists of candidates": (
        arguments(2, 3) | {"candidates": {"items": [], "features": []}},
        "toy_uncached: candidates: expected at least 1, got none; skip the call",
    ),
    "too long a history": (
        arguments(2, MAX_HISTORY + 1),
        "toy_uncached: axis history: expected at most 64, got 65; cut it to 64 (a history: to its most recent events)",
    ),
}


@pytest.mark.parametrize(("given_arguments", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_of_rank(given_arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(message)}"):
        arrays_for_rank(SIGNATURE, given_arguments)


def test_a_user_with_fewer_rows_than_the_model_has_scores_for() -> None:
    published = copy.deepcopy(TOY)
    published["axes"]["history"]["min_real"] = 2
    asked = signature_from_served("toy_uncached", served(published))
    arrays_for_rank(asked, arguments(2, 2))
    with pytest.raises(InvalidRequestError, match=r"^toy_uncached: axis history: expected at least 2, got 1, for"):
        arrays_for_rank(asked, arguments(2, 1))


BATCH: dict[str, Any] = {
    "visits": np.ones((2, 5), np.int64),
    "visit_weights": np.ones((2, 5), np.float32),
    "hour": np.ones(2, np.int8),
    "items": np.ones((2, 4), np.int64),
    "features": np.ones((2, 4, 3), np.float32),
}
WRONG_BATCHES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"item": [1]}, "toy_uncached: unknown tensor 'item', expected visits, "),
    "batch sizes": ({"hour": [1]}, "toy_uncached: expected one batch size, got {'visits': 2, "),
    "no batch axis": (
        {"hour": 1},
        "toy_uncached: hour: shape: expected [] for each row of the batch, got []; reshape it",
    ),
    "axis": (
        {"visits": np.ones((2, 65), np.int64), "visit_weights": np.ones((2, 65), np.float32)},
        "toy_uncached: axis history: expected 1 to 64, got 65; correct it",
    ),
    "no events": (
        {"visits": np.ones((2, 0), np.int64), "visit_weights": np.ones((2, 0), np.float32)},
        "toy_uncached: axis history: expected 1 to 64, got 0; correct it",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG_BATCHES.values(), ids=WRONG_BATCHES.keys())
def test_wrong_arguments_of_infer(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(message)}"):
        arrays_for_infer(SIGNATURE, BATCH | change)


@pytest.mark.parametrize("num_rows", [0, MAX_BATCH + 1])
def test_batch_beyond_the_servers(num_rows: int) -> None:
    batch = {name: np.repeat(array[:1], num_rows, axis=0) for name, array in BATCH.items()}
    with pytest.raises(InvalidRequestError, match=rf"batch: expected 1 to {MAX_BATCH} rows, got {num_rows}; "):
        arrays_for_infer(SIGNATURE, batch)


def test_infer_needs_every_tensor() -> None:
    with pytest.raises(InvalidRequestError, match=r"got visits; add visit_weights, hour, items, features$"):
        arrays_for_infer(SIGNATURE, {"visits": BATCH["visits"]})


INTEGERS = arrays_of.arrays(arrays_of.integer_dtypes() | arrays_of.unsigned_integer_dtypes(), st.integers(0, 5))


@settings(deadline=None)
@given(INTEGERS)
def test_integers_of_any_width_and_byte_order_pass_unchanged_or_not_at_all(values: NDArray[Any]) -> None:
    wide, narrow = SIGNATURE.inputs["items"], np.iinfo(np.int64)
    if values.size and int(values.max()) > narrow.max:
        with pytest.raises(InvalidRequestError):
            array_from_value("here", wide, values)
    else:
        array = array_from_value("here", wide, values)
        assert array.dtype == np.int64
        assert array.dtype.isnative
        assert array.tolist() == values.tolist()


def test_the_callers_arrays_are_not_changed() -> None:
    given_arguments = arguments(2, 3)
    before = given_arguments["history"]["visits"].copy()
    arrays_for_rank(SIGNATURE, given_arguments)
    assert (given_arguments["history"]["visits"] == before).all()
