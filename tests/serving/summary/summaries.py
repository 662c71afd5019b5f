"""A user of two tensors and a summary of two, small enough to check by hand, and everything around them faked."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleave.builders.names import Absence
from cleave.serving.errors import InputError
from cleave.serving.summary.keys import Keys
from cleave.serving.summary.request import Lookup, lookups_from_inputs
from cleave.serving.summary.store import Permit, StoreError
from cleave.serving.summary.summary_format import SummaryFormat, TensorFormat
from cleave.serving.summary.user_inputs import PaddedAxis, UserInput, UserInputs
from cleave.serving.summary.wire_format import KeptSummary, UnusableValueError, kept_from_value, value_from_kept

Arrays = dict[str, NDArray[Any]]

VISIT_PAD = -1
USER_INPUTS = UserInputs(
    {
        "visits": UserInput(np.dtype("int64"), (PaddedAxis(0, "history"),), VISIT_PAD),
        "weights": UserInput(np.dtype("float32"), (PaddedAxis(0, "history"),), 0),
    }
)
FORMAT = SummaryFormat(
    {
        "sums": TensorFormat(np.dtype("float32"), (2,)),
        "mask": TensorFormat(np.dtype("bool"), (1, -1)),
    }
)
BUILD, OTHER_BUILD = b"a" * 32, b"b" * 32
KEYS = Keys("toy", BUILD)
BAD_VISIT = 666


def history(visits: Sequence[int], padded_to: int | None = None) -> Arrays:
    """The user inputs of one user, weights all one."""
    fill = [0] * ((padded_to or len(visits)) - len(visits))
    return {
        "visits": np.array([*visits, *(VISIT_PAD for _ in fill)], np.int64),
        "weights": np.array([*(1 for _ in visits), *fill], np.float32),
    }


def lookup(
    user_id: str = "", visits: Sequence[int] | None = None, padded_to: int | None = None, build: bytes = BUILD
) -> Lookup:
    """A request of one user."""
    inputs: Arrays = {"user_id": np.array([[user_id.encode()]], object)} if user_id else {}
    if visits is not None:
        inputs |= {name: array[np.newaxis] for name, array in history(visits, padded_to).items()}
    (single,) = lookups_from_inputs(inputs, USER_INPUTS, Keys("toy", build))
    return single


def summary_of(inputs: Mapping[str, NDArray[Any]]) -> Arrays:
    """What the encoder makes of one user; padding shows in the shape of the mask alone."""
    real = inputs["visits"] != VISIT_PAD
    total = (inputs["visits"] * inputs["weights"])[real].sum()
    return {"sums": np.array([total, real.sum()], np.float32), "mask": real[np.newaxis]}


def sums(visits: Sequence[int]) -> list[float]:
    return [float(sum(visits)), float(len(visits))]


class FakeEncoder:
    """Refuses batches with a bad visit; waits while it is told to."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.going = asyncio.Event()
        self.going.set()

    async def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        self.batches.append(len(inputs["visits"]))
        await self.going.wait()
        if (inputs["visits"] == BAD_VISIT).any():
            raise InputError(f"input 'visits': expected ids below {BAD_VISIT}")
        users = [summary_of({name: array[row] for name, array in inputs.items()}) for row in range(self.batches[-1])]
        return {name: np.stack([user[name] for user in users]) for name in users[0]}

    @property
    def num_users(self) -> int:
        return sum(self.batches)


class FakeStore:
    """A dictionary of real values that a test damages, loses and takes away, for reading or writing alone too."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.permits: dict[bytes, bytes] = {}
        self.numbers = itertools.count()
        self.reads = self.writes = True
        self.build = BUILD

    @property
    def up(self) -> bool:
        return self.reads and self.writes

    @up.setter
    def up(self, up: bool) -> None:
        self.reads = self.writes = up

    async def get(self, key: bytes) -> KeptSummary | Absence:
        await asyncio.sleep(0)
        if not self.reads:
            return "store_error"
        if key not in self.values:
            return "miss"
        try:
            return kept_from_value(self.values[key], self.build, FORMAT)
        except UnusableValueError as error:
            return error.flaw

    async def permit(self, user_id: bytes) -> Permit | None:
        await asyncio.sleep(0)
        if not self.up:
            return None
        return Permit(user_id, self.permits.setdefault(user_id, b"%d" % next(self.numbers)))

    async def put(self, key: bytes, kept: KeptSummary, permit: Permit | None = None) -> bool:
        await asyncio.sleep(0)
        forgotten = permit is not None and permit.value != self.permits.get(permit.key)
        if not self.writes or forgotten:
            return False
        self.values[key] = value_from_kept(kept, self.build)
        return True

    async def forget(self, user_id: bytes) -> None:
        await asyncio.sleep(0)
        if not self.up:
            raise StoreError("store: down")
        self.permits.pop(user_id, None)
        for build in (BUILD, OTHER_BUILD):
            self.values.pop(Keys("toy", build).of_user(user_id), None)


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now
