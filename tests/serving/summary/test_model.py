"""The policy against a dictionary: whatever happens to the store, every answer is the one that a dictionary gives."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cleave.serving.errors import InputError
from cleave.serving.summary.metrics import LOOKUPS, Recorder
from cleave.serving.summary.policy import SummaryNotFoundError, SummaryPolicy
from cleave.serving.summary.request import Lookup, Summary
from cleave.serving.summary.store import StoreError
from tests.serving.summary.summaries import (
    BAD_VISIT,
    BUILD,
    OTHER_BUILD,
    USER_INPUTS,
    FakeClock,
    FakeEncoder,
    FakeStore,
    lookup,
    sums,
)

MAX_AGE_S = 100.0
USERS = st.sampled_from(["", "ann", "bob"])
NAMED = st.sampled_from(["ann", "bob"])
HISTORIES = st.sampled_from([(), (1,), (2,), (1, 2), (1, 2, 3), (BAD_VISIT,)])
FILL = st.integers(0, 2)

Outcome = tuple[str, tuple[int, ...] | None]
"""The status of a summary and the history it is of; or the reason there is none."""


@dataclass(frozen=True)
class Kept:
    """What the dictionary holds in place of a value."""

    visits: tuple[int, ...]
    encoded_at: float
    flaw: Literal["corrupt", "foreign"] | None = None


class PolicyMachine(RuleBasedStateMachine):
    """One store, the builds that are served from it one after the other, and a dictionary that does the same."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = FakeStore()
        self.clock = FakeClock()
        self.recorder = Recorder()
        self.encoder = FakeEncoder()
        self.expected: dict[bytes, Kept] = {}
        self.num_lookups = 0
        self.start(BUILD)

    def start(self, build: bytes) -> None:
        self.store.build = build
        self.policy = SummaryPolicy(
            self.store,
            self.encoder,
            USER_INPUTS,
            self.recorder,
            max_age_s=MAX_AGE_S,
            max_batch_size=2,
            clock=self.clock,
        )

    def teardown(self) -> None:
        self.loop.close()

    @rule(user=USERS, visits=HISTORIES, fill=FILL)
    def ask(self, user: str, visits: tuple[int, ...], fill: int) -> None:
        self.check([(user, visits, fill)])

    @rule(asked=st.lists(st.tuples(USERS, HISTORIES, FILL), min_size=2, max_size=5, unique_by=lambda each: each[:2]))
    def ask_at_once(self, asked: list[tuple[str, tuple[int, ...], int]]) -> None:
        """Of one user only one history, as the last one kept is any of them."""
        self.check([each for place, each in enumerate(asked) if each[0] not in {other[0] for other in asked[:place]}])

    @rule(user=NAMED)
    def ask_by_id(self, user: str) -> None:
        self.check([(user, None, 0)])

    @rule(seconds=st.sampled_from([1.0, 60.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(data=st.data(), flaw=st.sampled_from(["corrupt", "foreign"]))
    def damage(self, data: st.DataObject, flaw: Literal["corrupt", "foreign"]) -> None:
        if self.store.values:
            key = data.draw(st.sampled_from(sorted(self.store.values)))
            value = bytearray(self.store.values[key])
            value[0 if flaw == "foreign" else data.draw(st.integers(8, len(value) - 1))] ^= 0x55
            intact = self.expected[key].flaw is None
            if intact:
                self.store.values[key] = bytes(value)
                self.expected[key] = replace(self.expected[key], flaw=flaw)

    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        if self.store.values:
            key = data.draw(st.sampled_from(sorted(self.store.values)))
            del self.store.values[key], self.expected[key]

    @rule(reads=st.booleans(), writes=st.booleans())
    def switch_store(self, reads: bool, writes: bool) -> None:
        """It may be lost or come back between the look and the keeping."""
        self.store.reads, self.store.writes = reads, writes

    @rule(build=st.sampled_from([BUILD, OTHER_BUILD]))
    def serve_build(self, build: bytes) -> None:
        self.start(build)

    @rule(user=NAMED)
    def forget(self, user: str) -> None:
        try:
            self.loop.run_until_complete(self.policy.forget(user.encode()))
        except StoreError:
            assert not self.store.up
        else:
            for build in (BUILD, OTHER_BUILD):
                self.expected.pop(lookup(user, build=build).key, None)

    @invariant()
    def keeps_what_the_dictionary_keeps(self) -> None:
        assert self.store.values.keys() == self.expected.keys()

    @invariant()
    def counts_every_lookup(self) -> None:
        counted = self.recorder._sums
        assert sum(count for (metric, _), count in counted.items() if metric is LOOKUPS) == self.num_lookups

    def check(self, asked: Sequence[tuple[str, tuple[int, ...] | None, int]]) -> None:
        lookups = [
            lookup(user, visits, None if visits is None else len(visits) + fill, build=self.store.build)
            for user, visits, fill in asked
        ]
        expected = [self.outcome(single, visits) for single, (_, visits, _) in zip(lookups, asked, strict=True)]
        self.num_lookups += len(lookups)
        assert self.loop.run_until_complete(self.outcomes(lookups)) == [
            (status, None if visits is None else sums(visits)) for status, visits in expected
        ]

    async def outcomes(self, lookups: Sequence[Lookup]) -> list[tuple[str, list[float] | None]]:
        answers = self.policy.answers([[single] for single in lookups])
        return [_outcome(answer) for answer in await asyncio.gather(*answers, return_exceptions=True)]

    def outcome(self, single: Lookup, visits: tuple[int, ...] | None) -> Outcome:
        """What a dictionary would do."""
        kept = self.expected.get(single.key)
        flaw = "store_error" if not self.store.reads else "miss" if kept is None else kept.flaw
        if visits is None:
            if flaw or kept is None:
                return "not_found" if flaw == "miss" else str(flaw), None
            return ("expired", None) if self.clock.now - kept.encoded_at > MAX_AGE_S else ("hit", kept.visits)
        if kept is not None and flaw is None and kept.visits == visits:
            return "hit", visits
        if BAD_VISIT in visits:
            return "error", None
        if self.store.writes and (self.store.reads or not single.user_id):
            self.expected[single.key] = Kept(visits, self.clock.now)
        return flaw or "stale", visits


def _outcome(answer: list[Summary] | BaseException) -> tuple[str, list[float] | None]:
    if isinstance(answer, SummaryNotFoundError):
        return answer.reason, None
    if isinstance(answer, BaseException):
        assert isinstance(answer, InputError), answer
        return "error", None
    (summary,) = answer
    return summary.status, np.asarray(summary.tensors["sums"]).tolist()


TestPolicy = PolicyMachine.TestCase
TestPolicy.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
