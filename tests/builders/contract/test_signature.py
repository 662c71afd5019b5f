"""The signature that models publish: its text is the contract, and every reader gets the same object."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleave.builders.contract.records import RecordError
from cleave.builders.contract.signature import ServedAxis, ServedTensor, Signature
from cleave.builders.names import PADDING_SIDES

PUBLISHED: dict[str, Any] = {
    "axes": {"history": {"min": 1, "opt": 20, "max": 64, "buckets": [16, 32, 64]}},
    "inputs": {
        "user_id": {"role": "user_id", "axes": [], "pad": 0},
        "key": {"role": "summary", "axes": [2, "history + 1", 16], "pad": 0},
        "events": {"role": "user", "axes": ["history"], "pad": -1},
        "hour": {"role": "request", "axes": [], "pad": 0.5},
    },
    "outputs": {"scores": {"axes": ["history"]}, "summary_status": {"axes": []}},
    "summary_cache": "toy_summary_cache",
}
SIGNATURE = Signature(
    axes={"history": ServedAxis(1, 20, 64, (16, 32, 64))},
    inputs={
        "user_id": ServedTensor((), "user_id"),
        "key": ServedTensor((2, "history + 1", 16), "summary"),
        "events": ServedTensor(("history",), "user", -1),
        "hour": ServedTensor((), "request", 0.5),
    },
    outputs={"scores": ServedTensor(("history",)), "summary_status": ServedTensor(())},
    summary_cache="toy_summary_cache",
)

names = st.text(st.characters(categories=["Ll"]), min_size=1)
axes = st.builds(
    lambda buckets, side, min_real: ServedAxis(1, buckets[0], buckets[-1], tuple(buckets), side, min_real),
    st.sets(st.integers(1, 10_000), min_size=1).map(sorted),
    st.sampled_from(PADDING_SIDES),
    st.integers(0, 5),
)
shapes = st.lists(names | st.integers(1, 100)).map(tuple)
tensors = st.builds(
    ServedTensor,
    shapes,
    st.sampled_from(["user", "request", "candidate", "summary", "user_id"]),
    st.integers(-100, 100) | st.floats(allow_nan=False, allow_infinity=False),
)
signatures = st.builds(
    Signature,
    st.dictionaries(names, axes),
    st.dictionaries(names, tensors),
    st.dictionaries(names, st.builds(ServedTensor, shapes)),
    st.none() | names,
)


def test_the_text_is_the_contract() -> None:
    assert SIGNATURE.to_json() == json.dumps(PUBLISHED)


def test_an_axis_that_is_not_as_most_are_says_so() -> None:
    axis = ServedAxis(1, 20, 64, (16, 32, 64), "left", 1)
    published = json.loads(Signature({"history": axis}, {}, {}).to_json())["axes"]["history"]
    assert published == {**PUBLISHED["axes"]["history"], "padding_side": "left", "min_real": 1}


@given(signatures)
def test_what_is_published_is_read_in_the_same_order(signature: Signature) -> None:
    read = Signature.from_json(signature.to_json())
    assert read == signature
    assert read.to_json() == signature.to_json()


def test_a_model_without_summaries_names_no_cache() -> None:
    assert "summary_cache" not in Signature({}, {}, {}).to_json()


@pytest.mark.parametrize("size", range(1, 65))
def test_the_bucket_of_a_size_is_the_smallest_that_holds_it(size: int) -> None:
    axis = SIGNATURE.axes["history"]
    assert axis.bucket(size) == min(bucket for bucket in axis.buckets if bucket >= size)


def without(published: dict[str, Any], *path: str) -> dict[str, Any]:
    *places, last = path
    copy = json.loads(json.dumps(published))
    inside = copy
    for place in places:
        inside = inside[place]
    del inside[last]
    return dict(copy)


@pytest.mark.parametrize(
    ("published", "message"),
    [
        (without(PUBLISHED, "axes"), "axes: expected it, got none"),
        (without(PUBLISHED, "axes", "history", "max"), "axes.history.max: expected it, got none"),
        (without(PUBLISHED, "inputs", "hour", "axes"), "inputs.hour.axes: expected it, got none"),
        (
            {**PUBLISHED, "outputs": {"scores": {"axes": [1.5]}}},
            "outputs.scores.axes[0]: expected text or a w",
        ),
        ({**PUBLISHED, "inputs": {"a": {"role": "item", "axes": []}}}, "inputs.a.role: expected one of 'user', "),
        ({**PUBLISHED, "summary_cache": 1}, "summary_cache: expected text or null, got 1"),
    ],
)
def test_what_is_no_signature_is_refused(published: Any, message: str) -> None:
    with pytest.raises(RecordError, match=f"^{re.escape(message)}"):
        Signature.from_json(json.dumps(published))


@pytest.mark.parametrize("buckets", [[], [16], [64, 16], [16, 16, 64], [16, 128]])
def test_buckets_rise_to_the_longest(buckets: list[int]) -> None:
    axes = {"history": {"min": 1, "opt": 20, "max": 64, "buckets": buckets}}
    message = f"axes.history: expected buckets that rise to max=64, got {buckets}"
    with pytest.raises(RecordError, match=re.escape(message)):
        Signature.from_json(json.dumps({**PUBLISHED, "axes": axes}))
