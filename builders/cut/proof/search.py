"""Runs the steps of a proof within its time, and stops at the first score that is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

from cleave.builders.contract.proof import Proof
from cleave.builders.cut.proof.cases import Step
from cleave.builders.cut.proof.plan import plan_of
from cleave.builders.cut.proof.subject import Subject
from cleave.builders.cut.proof.trial import Trial

BUDGET_S = 12.0
"""What is not required is left out once this much time has passed, or would have."""
EARLY_SHARE = 0.25
"""Of the budget, spent on cheap steps that are not required before the expensive ones that are."""
TELLING_SHARE = 0.01
"""Of the work of the largest step: from here on a step tells how long others take, as of less most is overhead."""


def search(
    subject: Subject, seed: int = 0, budget_s: float = BUDGET_S, clock: Callable[[], float] = time.perf_counter
) -> Proof:
    """Look for a user or a list that is served wrongly.

    What is tried, and in which order, is the same for the same ranker and seed; how much of what is not required is
    reached depends on the machine.

    Raises:
        ParityError: one was found; says for which sizes it is wrong, why, and what to write instead.
        UserCodeError: the module fails at sizes within its axes.
        RunError: what is served does.
    """
    steps = plan_of(subject, seed)
    trial, watch = Trial(subject, seed), _Watch(clock, TELLING_SHARE * max(step.work for step in steps))
    deferred = []
    for step in steps:
        if step.required or watch.optional_s + watch.expected_s(step) < budget_s * EARLY_SHARE:
            watch.time(step, trial)
        else:
            deferred.append(step)
    for step in deferred:
        if watch.passed_s() + watch.expected_s(step) < budget_s:
            watch.time(step, trial)
        else:
            trial.tally.left_out[str(step)] += 1
    tally = trial.tally
    return Proof(
        num_users=tally.users,
        num_lists=tally.lists,
        largest=tally.largest,
        difference=tally.difference,
        seconds=watch.passed_s(),
        budget_s=budget_s,
        left_out=dict(tally.left_out),
    )


class _Watch:
    """Knows how long steps take."""

    optional_s = 0.0
    """Spent on what is not required."""

    def __init__(self, clock: Callable[[], float], telling_work: float) -> None:
        self._clock = clock
        self._telling_work = telling_work
        self._started = clock()
        self._s_per_work = 0.0

    def time(self, step: Step, trial: Trial) -> None:
        """Try a step."""
        begun = self._clock()
        trial(step.case)
        took = self._clock() - begun
        if step.work >= self._telling_work:
            self._s_per_work = max(self._s_per_work, took / step.work)
        if not step.required:
            self.optional_s += took

    def expected_s(self, step: Step) -> float:
        """How long a step takes, if as long for its work as the slowest so far; nothing before there was one."""
        return self._s_per_work * step.work

    def passed_s(self) -> float:
        return self._clock() - self._started
