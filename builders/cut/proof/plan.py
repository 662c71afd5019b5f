"""What a proof tries: the users and lists at which a model that is wrong somewhere is most likely to show it.

A model reads padding, or other candidates, from some size on, up to some size, or at sizes of some form. What it goes
by is a number of its own, or the size that it was padded to. So lengths are tried on both sides of every bucket and of
every number that the graph is made of, and some that are neither.
"""

from __future__ import annotations

import numpy as np

from cleave.builders.cut.proof.cases import TOGETHER, Step
from cleave.builders.cut.proof.plan_lists import lists_of
from cleave.builders.cut.proof.plan_users import UserPlan
from cleave.builders.cut.proof.subject import Subject


def plan_of(subject: Subject, seed: int) -> list[Step]:
    """The steps of a proof, the cheap ones first.

    Users of all kinds in small batches are the very first: they show most, and lists are compared by way of batches.
    """
    rng = np.random.default_rng(seed)
    steps = [*UserPlan(subject, rng).steps(), *lists_of(subject, rng)]
    return sorted(steps, key=lambda step: (step.kind != TOGETHER, step.work))
