"""Reads dataclasses from JSON by their annotations, so that whatever else is written there is refused in words."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union

from cleave.builders.contract.errors import ContractError

Record = TypeVar("Record")
"""A dataclass of what JSON has: records, mappings from text, lists and tuples, texts, numbers, truth values, null."""

MOST_SHOWN = 40
"""Characters of what was found that an error repeats."""

_SCALARS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null"}


class RecordError(ContractError):
    """JSON that is not the record that it should be; says where in it, and leaves what to do to whoever reads it."""


class _OtherKindError(RecordError):
    """What is at `where` is of another kind than its annotation says."""

    def __init__(self, message: str, where: str) -> None:
        super().__init__(message)
        self.where = where


def record_from_json(kind: type[Record], text: str) -> Record:
    """The record that `text` writes. A field that is not there has its default; what is no field is not read.

    Raises:
        RecordError: `text` is no JSON, a field is missing or of another type, or the dataclass refuses its value.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"expected JSON, got {text[:MOST_SHOWN]!r} ({error})") from error
    record: Record = _read(kind, value, "")
    return record


def _read(kind: Any, value: Any, where: str) -> Any:
    """A value of the type `kind`, found at `where` in the text."""
    if dataclasses.is_dataclass(kind):
        return _read_record(kind, value, where)
    return _READERS.get(typing.get_origin(kind), _read_scalar)(kind, value, where)


def _read_record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _unexpected(kind, value, where)
    annotations = typing.get_type_hints(kind)
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            given[field.name] = _read(annotations[field.name], value[field.name], _inside(where, field.name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise RecordError(f"{_inside(where, field.name)}: expected it, got none")
    try:
        return kind(**given)
    except ValueError as error:
        raise RecordError(f"{where}: {error}" if where else str(error)) from error


def _read_scalar(kind: Any, value: Any, where: str) -> Any:
    if type(value) is not kind and not (kind is float and type(value) is int):  # not isinstance: a bool is an int
        raise _unexpected(kind, value, where)
    return value


def _read_literal(kind: Any, value: Any, where: str) -> Any:
    if value not in typing.get_args(kind):
        raise _unexpected(kind, value, where)
    return value


def _read_one_of(kind: Any, value: Any, where: str) -> Any:
    for one in typing.get_args(kind):
        try:
            return _read(one, value, where)
        except _OtherKindError as error:
            if error.where != where:
                raise  # it is of this kind, with something of another kind inside
    raise _unexpected(kind, value, where)


def _read_mapping(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _unexpected(kind, value, where)
    _, of_values = typing.get_args(kind)
    return {name: _read(of_values, each, _inside(where, name)) for name, each in value.items()}


def _read_list(kind: Any, value: Any, where: str) -> Any:
    """`tuple[Kind, Kind]` is a list of two; `tuple[Kind, ...]` and `list[Kind]` are of any length."""
    if not isinstance(value, list):
        raise _unexpected(kind, value, where)
    of_items = typing.get_args(kind)
    if len(of_items) == 1 or of_items[1] is Ellipsis:
        of_items = (of_items[0],) * len(value)
    if len(value) != len(of_items):
        raise _unexpected(kind, value, where)
    items = enumerate(zip(of_items, value, strict=True))
    return typing.get_origin(kind)(_read(each, item, f"{where}[{place}]") for place, (each, item) in items)


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _unexpected(kind: Any, got: Any, where: str) -> _OtherKindError:
    written = json.dumps(got)
    shown = written if len(written) <= MOST_SHOWN else f"{written[:MOST_SHOWN]}..."
    return _OtherKindError(f"{where or 'the text'}: expected {_described(kind)}, got {shown}", where)


def _described(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_described, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin in (list, tuple):
        of_a_length = origin is tuple and arguments[-1] is not Ellipsis
        return f"a list of {len(arguments)}" if of_a_length else "a list"
    return _SCALARS.get(kind, "an object")


_READERS: Mapping[Any, Callable[[Any, Any, str], Any]] = {
    Union: _read_one_of,
    types.UnionType: _read_one_of,
    Literal: _read_literal,
    dict: _read_mapping,
    Mapping: _read_mapping,
    list: _read_list,
    tuple: _read_list,
}
"""By what an annotation is of; every other is a scalar."""
