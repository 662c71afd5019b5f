"""Proves a cut: searches for a user or a list whose served scores are not those of the torch module."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable

from cleave.builders.contract.proof import Proof
from cleave.builders.cut.cut import Cut
from cleave.builders.cut.proof.agreement import Referee
from cleave.builders.cut.proof.ignored import ignored_inputs
from cleave.builders.cut.proof.search import BUDGET_S, search
from cleave.builders.cut.proof.subject import subject_of_cut
from cleave.builders.cut.proof.values import Request, Values
from cleave.builders.passes.precision import precision_of


def referee_of(cut: Cut, tolerance: float | None = None) -> Referee:
    """What decides whether scores are as good as those of the module of a cut."""
    return Referee(cut.ranker, precision_of(cut.whole), tolerance)


def prove(
    cut: Cut,
    seed: int = 0,
    referee: Referee | None = None,
    budget_s: float = BUDGET_S,
    recorded: Iterable[Request] = (),
) -> Proof:
    """Look for a wrong score in everything that a cut is served as, and say what was tried.

    What is right are the scores of the module for one user alone, with real rows only. The whole model and its parts
    must give them for users of all lengths, padded to buckets and sharing a batch, and for every candidate in whatever
    list it stands; of unusual values and of recorded requests as well.

    Raises:
        ParityError: names the output, the sizes, the reason and what to do, for: an exporter that changed the model,
            padding, other candidates or other users that change a score, a cut that is wrong, a user without rows who
            has no finite score.
        IgnoredInputError: no input of the user, or none of the candidates, changes a score.
        UserCodeError: the module fails at sizes within its axes.
        RunError: a graph does.
    """
    started = time.perf_counter()
    referee = referee or referee_of(cut)
    referee.check_precision()
    subject = subject_of_cut(cut, referee)
    proof = search(subject, seed, budget_s)
    values = Values(subject, seed)
    num_unusual, warnings = values.unusual()
    warnings += ignored_inputs(subject, seed)
    num_recorded = values.recorded(recorded)
    return dataclasses.replace(
        proof,
        num_unusual=num_unusual,
        num_recorded=num_recorded,
        allowed=subject.referee.most_allowed,
        warnings=warnings,
        seconds=time.perf_counter() - started,
    )
