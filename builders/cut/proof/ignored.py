"""Finds inputs that change no score: a module that does not read its candidates, or its user, ranks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cleave.builders.cut.proof.accepted import accepting
from cleave.builders.cut.proof.subject import WHOLE, Subject
from cleave.builders.errors import CheckError
from cleave.builders.names import Role
from cleave.builders.onnx_graph.random_inputs import draw_inputs
from cleave.builders.spec import Ranker, Tensor

NUM_USERS = 32
"""Whose inputs are drawn at small sizes: an input that matters for one user in ten is missed once in thirty times."""
SMALL = 20
NUM_UNUSUAL_DRAWS = 8
"""Of values of several kinds: of two times that are 0 or 1 a module sees no difference."""

FORGOTTEN = "read it in forward, and check that trained weights were loaded: a last layer of zeros looks the same"


class IgnoredInputError(CheckError):
    """A module whose scores depend on no user, or on no candidate."""


def ignored_inputs(subject: Subject, seed: int = 0) -> tuple[str, ...]:
    """Warnings that name the inputs which change no score, however they are drawn.

    Raises:
        IgnoredInputError: no input of the user, or none of the candidates, changes a score.
    """
    ranker = accepting(subject.ranker, seed)
    for role, tensors in (("user", ranker.user), ("candidate", ranker.candidate)):
        if _are_ignored(subject, ranker, tensors, seed):
            names = ", ".join(tensor.name for tensor in tensors)
            raise IgnoredInputError(
                f"ranker {ranker.name!r}: inputs of the {role} ({names}): expected scores to depend on them, got the "
                f"same scores whatever they are; {FORGOTTEN}"
            )
    return tuple(
        f"ranker {ranker.name!r}: input {tensor.name!r} ({role}): expected scores to depend on it, got the same "
        f"scores whatever it is; leave it out of the Ranker, or {FORGOTTEN}"
        for role, tensor in _inputs(subject)
        if _are_ignored(subject, ranker, [tensor], seed)
    )


def _inputs(subject: Subject) -> Iterator[tuple[Role, Tensor]]:
    return ((role, tensor) for role, tensor in subject.ranker.tensors() if role != "output")


def _are_ignored(subject: Subject, ranker: Ranker, tensors: Sequence[Tensor], seed: int) -> bool:
    """Whether other values of these inputs change no score: of many users at small sizes, then of some at large ones.

    What is read is seen at the first.
    """
    small = {axis.name: min(axis.max, max(axis.min, SMALL)) for axis in ranker.axes}
    draws = [(small, NUM_USERS, False), (ranker.sizes("opt"), 2, False), (ranker.sizes("max"), 1, False)]
    draws += [(small, NUM_USERS, True)] * NUM_UNUSUAL_DRAWS
    for place, (sizes, users, unusual) in enumerate(draws):
        rng = np.random.default_rng([seed, place])
        inputs, others = (draw_inputs(ranker, sizes, users, rng, unusual=unusual) for _ in range(2))
        changed = {**inputs, **{tensor.name: others[tensor.name] for tensor in tensors}}
        before, after = subject.served[WHOLE](inputs), subject.served[WHOLE](changed)
        if any(not np.array_equal(before[name], after[name]) for name in before):
            return False
    return True
