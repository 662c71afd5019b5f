"""Records from JSON: what was written is read, and anything else is refused in words that say where."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleave.builders.contract.records import RecordError, record_from_json


@dataclass(frozen=True)
class Inner:
    sizes: dict[str, tuple[int, int]]
    share: float = 0.0

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError(f"share: expected at most 1, got {self.share}")


@dataclass(frozen=True)
class Outer:
    name: str
    kind: Literal["large", "small"]
    axes: tuple[str | int, ...]
    inner: Inner | None = None
    others: Mapping[str, Inner] = dataclasses.field(default_factory=dict)
    flags: list[bool] = dataclasses.field(default_factory=list)


inners = st.builds(
    Inner,
    st.dictionaries(st.text(), st.tuples(st.integers(), st.integers())),
    st.floats(max_value=1, allow_nan=False, allow_infinity=False),
)
outers = st.builds(
    Outer,
    st.text(),
    st.sampled_from(["large", "small"]),
    st.lists(st.text() | st.integers()).map(tuple),
    st.none() | inners,
    st.dictionaries(st.text(), inners),
    st.lists(st.booleans()),
)
without_kind = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.sampled_from(["name", "axes", "inner", "flags"]), inside),
    max_leaves=8,
)


@given(outers)
def test_what_is_written_is_read(record: Outer) -> None:
    assert record_from_json(Outer, json.dumps(dataclasses.asdict(record))) == record


@given(without_kind)
def test_any_other_json_is_refused_in_words(value: Any) -> None:
    with pytest.raises(RecordError, match=r"^(the text|[a-z]+[\w.\[\]]*): expected "):
        record_from_json(Outer, json.dumps(value))


RIGHT: dict[str, Any] = {"name": "a", "kind": "small", "axes": []}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the text: expected an object, got null"),
        ([3], "the text: expected an object, got [3]"),
        ({}, "name: expected it, got none"),
        ({**RIGHT, "name": 3}, "name: expected text, got 3"),
        ({**RIGHT, "name": ["a" * 50]}, f'name: expected text, got ["{"a" * 38}...'),
        ({**RIGHT, "kind": "other"}, "kind: expected one of 'large', 'small', got \"other\""),
        ({**RIGHT, "kind": []}, "kind: expected one of 'large', 'small', got []"),
        ({**RIGHT, "axes": {}}, "axes: expected a list, got {}"),
        ({**RIGHT, "axes": ["a", 1.5]}, "axes[1]: expected text or a whole number, got 1.5"),
        ({**RIGHT, "inner": 3}, "inner: expected an object or null, got 3"),
        ({**RIGHT, "inner": {"sizes": {"a": [1]}}}, "inner.sizes.a: expected a list of 2, got [1]"),
        ({**RIGHT, "inner": {"sizes": {"a": [1, True]}}}, "inner.sizes.a[1]: expected a whole number, got true"),
        ({**RIGHT, "inner": {"sizes": {}, "share": 2}}, "inner: share: expected at most 1, got 2"),
        ({**RIGHT, "others": {"x": {"sizes": []}}}, "others.x.sizes: expected an object, got []"),
        ({**RIGHT, "flags": [0]}, "flags[0]: expected true or false, got 0"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(value: Any, message: str) -> None:
    with pytest.raises(RecordError, match=f"^{re.escape(message)}$"):
        record_from_json(Outer, json.dumps(value))


@pytest.mark.parametrize("text", ["", "{", "name", "[" * 100_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match=f"^expected JSON, got {re.escape(repr(text[:40]))} "):
        record_from_json(Outer, text)


def test_what_a_later_version_adds_is_not_read() -> None:
    assert record_from_json(Outer, json.dumps({**RIGHT, "later": 1})) == Outer("a", "small", ())
