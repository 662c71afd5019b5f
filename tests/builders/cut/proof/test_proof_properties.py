"""No module is accepted and served wrongly: modules are drawn, proven, and served in process at sizes of their own.

`CLEAVE_RANDOM_MODULES=2000 pytest tests/builders/cut/proof/test_proof_properties.py` draws so many (some minutes).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch

from cleave.builders.cut.proof.search import search
from cleave.builders.errors import BuilderError
from tests.builders.cut.proof.oracle import LARGE_SHARE, Oracle
from tests.builders.cut.proof.random_modules import RandomRanker, random_ranker
from tests.builders.cut.proof.subjects import subject_of_module

NUM_MODULES = int(os.environ.get("CLEAVE_RANDOM_MODULES", "24"))
NO_HURRY_S = 300.0
ROUNDS = 12
DENSE_ROUNDS = 60
"""Before a refusal is called false."""


@pytest.fixture(autouse=True)
def _on_one_thread() -> Iterator[None]:
    """Small operators are not worth sharing out among cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def refusal_of(drawn: RandomRanker) -> str | None:
    """Why the proof refuses a module; None where it finds nothing."""
    try:
        search(subject_of_module(drawn.ranker), budget_s=NO_HURRY_S)
    except BuilderError as error:
        return str(error)
    return None


def is_wrong(drawn: RandomRanker, seed: int, rounds: int) -> bool:
    """Whether a caller gets a score that is not the module's, or the module fails for one."""
    try:
        return Oracle(drawn, seed).worst(rounds) > LARGE_SHARE
    except (IndexError, RuntimeError):  # of torch, at sizes that the module does not take
        return True


def test_what_is_accepted_is_served_right_and_what_is_known_to_be_right_is_accepted(
    record_property: Callable[[str, object], None],
) -> None:
    counts: Counter[str] = Counter()
    for seed in range(NUM_MODULES):
        drawn = random_ranker(seed)
        refusal = refusal_of(drawn)
        wrong = is_wrong(drawn, seed, ROUNDS)
        assert refusal is not None or not wrong, f"seed {seed}: accepted, and served wrongly: {drawn}"
        assert refusal is None or not drawn.known_right, f"seed {seed}: {drawn}: {refusal}"
        if refusal is not None and not wrong:
            wrong = is_wrong(drawn, seed, DENSE_ROUNDS)
        counts["accepted" if refusal is None else "refused" if wrong else "refused, and no wrong score found"] += 1
        counts["known to be right"] += drawn.known_right
    for words, count in counts.items():
        record_property(words, count)
    print(dict(counts))
    assert counts["accepted"] >= NUM_MODULES / 5
    assert counts["refused"] >= NUM_MODULES / 5
    assert counts["refused, and no wrong score found"] <= max(2, NUM_MODULES / 50)
