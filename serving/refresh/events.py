"""Events of users, from a stream of the store that several workers share without losing any."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from valkey.exceptions import ResponseError

from cleave.builders.names import USER
from cleave.clients.errors import InvalidRequestError
from cleave.clients.signature import Axis, ModelSignature, Tensor
from cleave.clients.validation import array_from_value
from cleave.serving.errors import ServingError

USER_FIELD, TIME_FIELD = b"user", b"time"

Fields = Mapping[bytes, bytes]
EventRow = Mapping[str, Any]
"""What an event adds to each of the user's tensors: a number, or a list of them."""


class EventError(ServingError):
    """An event that cannot be used, now or ever."""


@dataclass(frozen=True)
class Event:
    """Something a user did; `entry` is its id in the stream."""

    entry: bytes
    user_id: bytes
    time: float
    """Unix time in seconds."""
    row: EventRow


def history_tensors(signature: ModelSignature) -> dict[str, Tensor]:
    """The user inputs of a ranker, each of which has a row for every event.

    Raises:
        ServingError: one of them has not, or they differ in the axis of events.
    """
    tensors = signature.inputs_of(USER)
    axes = {tensor.axes[0] if tensor.axes else None for tensor in tensors.values()}
    if len(axes) != 1 or not isinstance(next(iter(axes)), Axis):
        described = ", ".join(f"{name} {tensor.axis_names}" for name, tensor in tensors.items())
        raise ServingError(
            f"{signature.model}: expected user inputs with one axis of events in front, got {described}; summaries of "
            "such a ranker are kept fresh by `warm` of the client"
        )
    return tensors


def max_events(tensors: Mapping[str, Tensor]) -> int:
    """How many events a history holds."""
    axis = next(iter(tensors.values())).axes[0]
    assert isinstance(axis, Axis)
    return axis.max


def event_from_fields(entry: bytes, fields: Fields, tensors: Mapping[str, Tensor]) -> Event:
    """An event from an entry of the stream: `user`, `time` and a JSON value for each tensor; other fields are ignored.

    Raises:
        EventError: a field is missing or no such value.
    """
    wanted = [USER_FIELD, TIME_FIELD, *(name.encode() for name in tensors)]
    missing = [name.decode() for name in wanted if not fields.get(name)]
    if missing:
        raise EventError(f"event {entry.decode()}: expected the field {missing[0]!r}, got none; it is left out")
    values = {name: _value(entry, name, fields[name.encode()]) for name in ("time", *tensors)}
    time = values.pop("time")
    if not isinstance(time, int | float) or not math.isfinite(time):
        raise EventError(f"event {entry.decode()}: time: expected seconds, got {time!r}; it is left out")
    for name, value in values.items():
        _check_row(entry, tensors[name], value)
    return Event(entry, fields[USER_FIELD], float(time), values)


def _value(entry: bytes, name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise EventError(f"event {entry.decode()}: {name}: expected JSON, got {content!r}; it is left out") from error


def _check_row(entry: bytes, tensor: Tensor, value: Any) -> None:
    """As a history of one event, by the rules of the client; JSON writes a whole float without its point."""
    where = f"event {entry.decode()}: {tensor.name}"
    try:
        array_from_value(where, tensor, np.asarray([value], "f8") if tensor.dtype.kind == "f" else [value])
    except (InvalidRequestError, TypeError, ValueError) as error:
        words = str(error) if isinstance(error, InvalidRequestError) else f"{where}: expected numbers, got {value!r}"
        raise EventError(f"{words}; it is left out") from error


def arrays_from_rows(rows: Sequence[EventRow], tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """A user's history as the client takes it, [events, ...] each."""
    return {name: np.array([row[name] for row in rows], tensor.dtype) for name, tensor in tensors.items()}


class EventStream:
    """One worker's part in the events of a stream; every entry is given to one worker until it says it is done.

    Args:
        connection: see `cleave.serving.store.url.blocking_connection_from_url`.
        stream: key of the stream; it and the group are made if they are not there.
        group: workers of one group share the events, each group gets all of them.
        worker: name of this worker, of no other one.
    """

    def __init__(self, connection: Any, stream: str, group: str, worker: str) -> None:
        self._connection = connection
        self._stream = stream
        self._group = group
        self._worker = worker

    def read(self, count: int, wait_s: float) -> list[tuple[bytes, Fields]]:
        """Entries that no worker was given yet; waits for the first."""
        wait_ms = max(1, round(wait_s * 1000))
        answer = self._ask("xreadgroup", self._group, self._worker, {self._stream: ">"}, count=count, block=wait_ms)
        return [entry for _, entries in answer or [] for entry in entries]

    def take_over(self, count: int, idle_s: float) -> list[tuple[bytes, Fields]]:
        """Entries that other workers were given so long ago that they must have ended."""
        answer = self._ask(
            "xautoclaim", self._stream, self._group, self._worker, round(idle_s * 1000), start_id="0-0", count=count
        )
        return [(entry, fields) for entry, fields in answer[1] if fields is not None]

    def _ask(self, command: str, *arguments: Any, **options: Any) -> Any:
        """A command of the group, which begins with the first event that the stream still has."""
        try:
            return getattr(self._connection, command)(*arguments, **options)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
        with contextlib.suppress(ResponseError):  # another worker was faster
            self._connection.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        return getattr(self._connection, command)(*arguments, **options)

    def done(self, entries: Iterable[bytes]) -> None:
        """These need not be given to anyone again."""
        names = list(entries)
        if names:
            self._connection.xack(self._stream, self._group, *names)
