from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cleave.serving.errors import InputError, RequestFailedError
from cleave.serving.summary.metrics import AGE_SECONDS, ENCODED, LOOKUPS, Recorder
from cleave.serving.summary.policy import SummaryNotFoundError, SummaryPolicy
from cleave.serving.summary.request import Lookup, Summary
from cleave.serving.summary.store import Permit, StoreError
from cleave.serving.summary.wire_format import KeptSummary
from tests.serving.summary.summaries import BAD_VISIT, USER_INPUTS, FakeClock, FakeEncoder, FakeStore, lookup, sums

MAX_AGE_S = 100.0
MAX_BATCH = 4


class World:
    """A policy and everything around it."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.encoder = FakeEncoder()
        self.clock = FakeClock()
        self.recorder = Recorder()
        self.policy = SummaryPolicy(
            self.store,
            self.encoder,
            USER_INPUTS,
            self.recorder,
            max_age_s=MAX_AGE_S,
            max_batch_size=MAX_BATCH,
            clock=self.clock,
        )

    async def ask(self, *lookups: Lookup) -> list[Summary]:
        (answer,) = self.policy.answers([lookups])
        return await answer

    async def ask_one(self, *arguments: Any, **options: Any) -> Summary:
        (summary,) = await self.ask(lookup(*arguments, **options))
        return summary

    def counts(self) -> dict[str, float]:
        """Lookups since the last time."""
        sums, _ = self.recorder.drain()
        return {":".join(labels): count for (metric, labels), count in sums.items() if metric is LOOKUPS}


@pytest.fixture
async def world() -> World:
    return World()


def is_of(summary: Summary, visits: Sequence[int]) -> bool:
    return bool(summary.tensors["sums"].tolist() == sums(visits))


async def test_a_user_is_encoded_once_and_then_known(world: World) -> None:
    first, second = [await world.ask_one("ann", [1, 2]) for _ in range(2)]
    assert (first.status, second.status) == ("miss", "hit")
    assert is_of(first, [1, 2])
    assert is_of(second, [1, 2])
    assert world.encoder.num_users == 1
    assert world.counts() == {"inputs:miss": 1, "inputs:hit": 1}


async def test_a_known_user_need_not_send_a_history(world: World) -> None:
    await world.ask_one("ann", [1, 2])
    world.clock.now += MAX_AGE_S
    summary = await world.ask_one("ann")
    assert (summary.status, summary.age_s) == ("hit", MAX_AGE_S)
    assert is_of(summary, [1, 2])
    assert world.counts() == {"inputs:miss": 1, "id:hit": 1}


async def test_a_grown_history_is_encoded_anew_and_replaces_the_old(world: World) -> None:
    await world.ask_one("ann", [1, 2])
    grown = await world.ask_one("ann", [1, 2, 3])
    assert grown.status == "stale"
    assert is_of(grown, [1, 2, 3])
    assert is_of(await world.ask_one("ann"), [1, 2, 3])


async def test_a_verified_summary_does_not_age(world: World) -> None:
    await world.ask_one("ann", [1, 2])
    world.clock.now += 10 * MAX_AGE_S
    summary = await world.ask_one("ann", [1, 2])
    assert (summary.status, summary.age_s) == ("hit", 10 * MAX_AGE_S)


async def test_a_clock_that_is_behind_gives_no_negative_age(world: World) -> None:
    await world.ask_one("ann", [1, 2])
    world.clock.now -= 50
    assert (await world.ask_one("ann")).age_s == 0


async def test_by_id_alone_an_old_summary_is_not_used(world: World) -> None:
    await world.ask_one("ann", [1, 2])
    world.clock.now += MAX_AGE_S + 1
    words = (
        r"user 'ann': no summary to use, as the one that is kept is 101 s old, expected at most 100 s; send the user"
    )
    with pytest.raises(SummaryNotFoundError, match=words):
        await world.ask_one("ann")
    assert world.counts() == {"inputs:miss": 1, "id:expired": 1}


async def test_a_user_nobody_knows_is_not_found(world: World) -> None:
    words = r"user 'bob': no summary to use, as none is kept; send the user inputs \(visits, weights\) as well"
    with pytest.raises(SummaryNotFoundError, match=words):
        await world.ask_one("bob")
    assert world.counts() == {"id:not_found": 1}


async def test_the_same_history_padded_further_is_a_hit(world: World) -> None:
    await world.ask_one("ann", [1, 2], padded_to=4)
    summary = await world.ask_one("ann", [1, 2], padded_to=8)
    assert summary.status == "hit"
    assert summary.tensors["mask"].shape == (1, 4)


async def test_without_an_id_the_history_is_the_key(world: World) -> None:
    assert [(await world.ask_one("", visits)).status for visits in ([1], [2], [1])] == ["miss", "miss", "hit"]


@pytest.mark.parametrize("reason", ["corrupt", "foreign"])
async def test_a_damaged_value_is_encoded_anew(world: World, reason: str) -> None:
    await world.ask_one("ann", [1, 2])
    (key,) = world.store.values
    world.store.values[key] = world.store.values[key][:-1] if reason == "corrupt" else b"of another program"
    with pytest.raises(SummaryNotFoundError, match="user 'ann': no summary to use, as the one that was kept"):
        await world.ask_one("ann")
    summary = await world.ask_one("ann", [1, 2])
    assert summary.status == reason
    assert is_of(summary, [1, 2])
    assert (await world.ask_one("ann")).status == "hit"
    assert world.counts() == {"inputs:miss": 1, f"id:{reason}": 1, f"inputs:{reason}": 1, "id:hit": 1}


async def test_without_a_store_all_are_encoded(world: World) -> None:
    await world.ask_one("ann", [1, 2])
    world.store.up = False
    summary = await world.ask_one("ann", [1, 2])
    assert summary.status == "store_error"
    assert is_of(summary, [1, 2])
    with pytest.raises(SummaryNotFoundError, match="the store cannot be reached; send the user inputs"):
        await world.ask_one("ann")
    world.store.up = True
    assert (await world.ask_one("ann", [1, 2])).status == "hit"


async def test_equal_misses_at_the_same_time_are_encoded_once(world: World) -> None:
    world.encoder.going.clear()
    answers = [answer for _ in range(64) for answer in world.policy.answers([[lookup("ann", [1, 2])]])]
    gathered = asyncio.gather(*answers)
    await settle()
    world.encoder.going.set()
    summaries = [summary for (summary,) in await gathered]
    assert world.encoder.batches == [1]
    assert all(summary.status == "miss" and is_of(summary, [1, 2]) for summary in summaries)
    assert world.counts() == {"inputs:miss": 64}


async def test_other_histories_of_a_user_are_other_misses(world: World) -> None:
    answers = world.policy.answers([[lookup("ann", [1])], [lookup("ann", [2])]])
    (one,), (other,) = await asyncio.gather(*answers)
    assert is_of(one, [1])
    assert is_of(other, [2])


async def test_misses_of_equal_shapes_are_one_batch(world: World) -> None:
    visits = [[1, 2], [3, 4], [5, 6, 7], [8, 9], [10, 11, 12]]
    answers = world.policy.answers([[lookup(f"user {place}", each)] for place, each in enumerate(visits)])
    summaries = [summary for (summary,) in await asyncio.gather(*answers)]
    assert sorted(world.encoder.batches) == [2, 3]
    assert all(is_of(summary, each) for summary, each in zip(summaries, visits, strict=True))


async def test_a_batch_is_not_larger_than_the_encoder_takes(world: World) -> None:
    requests = [[lookup(f"user {place}", [place])] for place in range(2 * MAX_BATCH + 1)]
    await asyncio.gather(*world.policy.answers(requests))
    assert sorted(world.encoder.batches) == [1, MAX_BATCH, MAX_BATCH]


async def test_a_hit_does_not_wait_for_a_miss_of_its_batch_or_another(world: World) -> None:
    await world.ask_one("ann", [1, 2])
    world.encoder.going.clear()
    miss, hit = map(asyncio.ensure_future, world.policy.answers([[lookup("bob", [3])], [lookup("ann", [1, 2])]]))
    assert [summary.status for summary in await asyncio.wait_for(hit, 5)] == ["hit"]
    assert (await asyncio.wait_for(world.ask_one("ann"), 5)).status == "hit"
    assert not miss.done()
    world.encoder.going.set()
    assert [summary.status for summary in await miss] == ["miss"]


async def test_only_the_bad_history_of_a_batch_fails_and_is_not_kept(world: World) -> None:
    visits = [[1], [BAD_VISIT], [2]]
    answers = world.policy.answers([[lookup(f"user {each[0]}", each)] for each in visits])
    first, bad, last = await asyncio.gather(*answers, return_exceptions=True)
    assert isinstance(first, list)
    assert isinstance(last, list)
    assert isinstance(bad, InputError)
    assert is_of(first[0], [1])
    assert is_of(last[0], [2])
    assert len(world.store.values) == 2
    assert world.counts() == {"inputs:miss": 2, "inputs:error": 1}


async def test_a_failed_encoding_is_tried_again_by_the_next_request(world: World) -> None:
    for _ in range(2):
        with pytest.raises(InputError, match="expected ids below"):
            await world.ask_one("ann", [BAD_VISIT])
    assert world.encoder.batches == [1, 1]


async def test_an_encoder_that_answers_nonsense_fails_requests_and_nothing_else(world: World) -> None:
    async def nonsense(_: Any) -> dict[str, Any]:
        return {"sums": np.zeros((0, 2), np.float32)}

    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    policy = SummaryPolicy(world.store, nonsense, USER_INPUTS, world.recorder, max_age_s=1, max_batch_size=1)
    for _ in range(2):
        with pytest.raises(RequestFailedError, match="summary cache: IndexError"):
            await policy.answers([[lookup("ann", [1])]])[0]
    assert [type(context["exception"]) for context in reported] == [IndexError, IndexError]
    assert not world.store.values


async def test_rows_kept_at_different_paddings_are_padded_alike(world: World) -> None:
    await world.ask_one("ann", [1, 2], padded_to=2)
    ann, bob = await world.ask(lookup("ann", [1, 2], padded_to=4), lookup("bob", [3, 4, 5], padded_to=4))
    assert (ann.status, bob.status) == ("hit", "miss")
    assert ann.tensors["mask"].shape == bob.tensors["mask"].shape == (1, 4)
    assert is_of(ann, [1, 2])
    assert is_of(bob, [3, 4, 5])


async def test_by_id_alone_rows_of_different_paddings_cannot_be_joined(world: World) -> None:
    await world.ask_one("ann", [1, 2], padded_to=2)
    await world.ask_one("bob", [1, 2], padded_to=4)
    with pytest.raises(InputError, match="users 'ann', 'bob': expected kept summaries of one size, got several; ask"):
        await world.ask(lookup("ann"), lookup("bob"))


async def test_a_forgotten_user_is_not_found(world: World) -> None:
    await world.ask_one("ann", [1, 2])
    await world.policy.forget(b"ann")
    with pytest.raises(SummaryNotFoundError):
        await world.ask_one("ann")
    world.store.up = False
    with pytest.raises(StoreError):
        await world.policy.forget(b"ann")


async def test_what_was_being_encoded_when_a_user_was_forgotten_is_not_kept(world: World) -> None:
    world.encoder.going.clear()
    answer = asyncio.ensure_future(world.ask_one("ann", [1, 2]))
    await settle()
    await world.policy.forget(b"ann")
    world.encoder.going.set()
    assert is_of(await answer, [1, 2])
    assert not world.store.values


async def test_nor_is_what_another_process_was_encoding(world: World) -> None:
    world.encoder.going.clear()
    bad, good = map(
        asyncio.ensure_future,
        world.policy.answers([[lookup("ann", [BAD_VISIT])], [lookup("bob", [1])]]),  # each encoded by itself afterwards
    )
    await settle()
    other = SummaryPolicy(world.store, FakeEncoder(), USER_INPUTS, Recorder(), max_age_s=1, max_batch_size=1)
    await other.forget(b"bob")
    world.encoder.going.set()
    assert is_of((await good)[0], [1])
    with pytest.raises(InputError):
        await bad
    assert not world.store.values
    await other.answers([[lookup("bob", [1])]])[0]
    assert len(world.store.values) == 1, "asked for after it was forgotten"


async def test_what_was_being_kept_when_a_user_was_forgotten_is_deleted(world: World) -> None:
    keeping, kept = asyncio.Event(), asyncio.Event()

    class SlowStore(FakeStore):
        async def put(self, key: bytes, summary: KeptSummary, permit: Permit | None = None) -> bool:
            keeping.set()
            await kept.wait()
            return await super().put(key, summary, permit)

    store = SlowStore()
    policy = SummaryPolicy(store, world.encoder, USER_INPUTS, Recorder(), max_age_s=1, max_batch_size=1)
    answer = asyncio.ensure_future(policy.answers([[lookup("ann", [1, 2])]])[0])
    await keeping.wait()
    forgotten = asyncio.ensure_future(policy.forget(b"ann"))
    await settle()
    kept.set()
    await asyncio.gather(answer, forgotten)
    assert not store.values


async def test_ages_and_encoded_users_are_measured(world: World) -> None:
    await world.ask_one("ann", [1, 2])
    world.clock.now += 7
    await world.ask_one("ann")
    sums, samples = world.recorder.drain()
    assert sums[ENCODED, ()] == 1
    assert samples[AGE_SECONDS, ("inputs",)] == [0]
    assert samples[AGE_SECONDS, ("id",)] == [7]


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)
