from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from cleave.serving.errors import OverloadError, RequestDroppedError, RequestFailedError
from cleave.serving.limits import Limits
from cleave.serving.summary.caller import Caller
from cleave.serving.summary.encoder_queue import EncoderQueue, Flight, SummaryOrError
from tests.serving.summary.summaries import FakeClock, lookup

MAX_BATCH = 4


class World:
    """A queue, and an encoder that takes what it is given and ends when it is told to."""

    def __init__(self, limits: Limits) -> None:
        self.clock = FakeClock()
        self.batches: list[list[Flight]] = []
        self.ends: list[asyncio.Event] = []
        self.most_at_a_time = 0
        self.queue = EncoderQueue(self.encode, self.land, max_batch_size=MAX_BATCH, limits=limits)

    async def encode(self, batch: Sequence[Flight]) -> None:
        self.batches.append(list(batch))
        self.ends.append(asyncio.Event())
        self.most_at_a_time = max(self.most_at_a_time, sum(not end.is_set() for end in self.ends))
        await self.ends[-1].wait()
        for flight in batch:
            self.land(flight, RequestFailedError("encoded"))

    def land(self, flight: Flight, answer: SummaryOrError) -> None:
        if not flight.landed.done():
            flight.landed.set_result(answer)

    def flight(self, length: int = 1, timeout_s: float | None = None) -> Flight:
        caller = Caller(timeout_s, clock=self.clock)
        asked = replace(lookup("ann", [1] * length), caller=caller)
        return Flight(asked, asyncio.get_running_loop().create_future())

    async def end(self) -> None:
        """Of all batches that run, and whatever follows at once."""
        for end in self.ends:
            end.set()
        for _ in range(10):
            await asyncio.sleep(0)


def _is(flight: Flight, kind: type[Exception]) -> bool:
    return flight.landed.done() and isinstance(flight.landed.result(), kind)


async def test_those_that_nobody_awaits_any_more_are_dropped_unread() -> None:
    world = World(Limits(max_encodings=1))
    running = world.flight(timeout_s=1.0)
    world.queue.add([running])
    await asyncio.sleep(0)
    late = [world.flight(timeout_s=1.0) for _ in range(30)]
    world.queue.add(late)
    world.clock.now += 2
    newcomer = world.flight(2, timeout_s=1.0)
    world.queue.add([newcomer])
    await world.end()
    assert world.batches == [[running], [newcomer]]
    assert all(_is(flight, RequestDroppedError) for flight in late)
    await world.end()
    assert _is(newcomer, RequestFailedError)


async def test_a_flight_is_flown_as_long_as_one_of_its_callers_waits() -> None:
    world = World(Limits(max_encodings=1))
    world.queue.add([world.flight(3)])
    await asyncio.sleep(0)
    joined = world.flight(timeout_s=1.0)
    joined.joined.append(replace(joined.lookup, caller=Caller(10.0, clock=world.clock)))
    world.queue.add([joined])
    world.clock.now += 2
    await world.end()
    assert world.batches[1] == [joined]


@pytest.mark.parametrize("seed", range(10))
async def test_every_flight_lands_once_in_batches_of_equal_shapes_in_the_order_they_came(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = Limits(max_encodings=int(rng.integers(1, 4)))
    world = World(limits)
    flights: list[Flight] = []
    for _ in range(20):
        fresh = [world.flight(int(length)) for length in rng.integers(1, 4, rng.integers(1, 6))]
        flights += fresh
        world.queue.add(fresh)
        if rng.random() < 0.3:
            await world.end()
    while not all(flight.landed.done() for flight in flights):
        await world.end()
    assert all(len(batch) <= MAX_BATCH and len({flight.shapes for flight in batch}) == 1 for batch in world.batches)
    encoded = [flight for batch in world.batches for flight in batch]
    assert sorted(map(id, encoded)) == sorted(map(id, flights))
    for shapes in {flight.shapes for flight in flights}:
        assert [each for each in encoded if each.shapes == shapes] == [
            each for each in flights if each.shapes == shapes
        ]
    assert world.most_at_a_time <= limits.max_encodings


async def test_too_many_are_refused_at_once_unless_those_that_wait_are_late() -> None:
    world = World(Limits(max_queue=3, max_encodings=1))
    world.queue.add([world.flight()])
    await asyncio.sleep(0)
    waiting = [world.flight(2, timeout_s=1.0) for _ in range(3)]
    refused, taken = world.flight(2), world.flight(2)
    world.queue.add([*waiting, refused])
    assert _is(refused, OverloadError)
    assert str(refused.landed.result()).startswith(
        "Exceeds maximum queue size of the history encoder: expected at most 3"
    )
    world.clock.now += 2
    world.queue.add([taken])
    assert all(_is(flight, RequestDroppedError) for flight in waiting)
    assert not taken.landed.done()
    await world.end()
    assert world.batches[1] == [taken]


async def test_a_batch_that_fails_in_an_unknown_way_lands_too() -> None:
    world = World(Limits())
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    async def fail(batch: Sequence[Flight]) -> None:
        raise OSError("no room")

    world.queue._encode = fail
    flight = world.flight()
    world.queue.add([flight])
    await world.end()
    assert str(flight.landed.result()) == "summary cache: OSError: no room; see the server's log"
    assert [str(error) for error in reported] == ["no room"]
