"""Finds inputs that change no score: a module that does not read its candidates, or its user, ranks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cleave.builders.cut.proof.subject import WHOLE, Subject
from cleave.builders.errors import CheckError
from cleave.builders.names import Role
from cleave.builders.onnx_graph.random_inputs import Arrays, draw_inputs
from cleave.builders.onnx_graph.session import RunError
from cleave.builders.spec import Tensor

NUM_USERS = 32
"""Whose inputs are drawn at small sizes: an input that matters for one user in ten is missed once in thirty times."""
SMALL = 20
LARGE_VALUES = (100, 10_000, 10**9, 10**12)
"""Upper ends of integers whose range is not known: counts, days, seconds, milliseconds."""

FORGOTTEN = "read it in forward, and check that trained weights were loaded: a last layer of zeros looks the same"


class IgnoredInputError(CheckError):
    """A module whose scores depend on no user, or on no candidate."""


def ignored_inputs(subject: Subject, seed: int = 0) -> tuple[str, ...]:
    """Warnings that name the inputs which change no score, however they are drawn.

    Raises:
        IgnoredInputError: no input of the user, or none of the candidates, changes a score.
    """
    ranker = subject.ranker
    for role, tensors in (("user", ranker.user), ("candidate", ranker.candidate)):
        if _are_ignored(subject, tensors, seed):
            names = ", ".join(tensor.name for tensor in tensors)
            raise IgnoredInputError(
                f"ranker {ranker.name!r}: inputs of the {role} ({names}): expected scores to depend on them, got the "
                f"same scores whatever they are; {FORGOTTEN}"
            )
    return tuple(
        f"ranker {ranker.name!r}: input {tensor.name!r} ({role}): expected scores to depend on it, got the same "
        f"scores whatever it is; leave it out of the Ranker, or {FORGOTTEN}"
        for role, tensor in _inputs(subject)
        if _are_ignored(subject, [tensor], seed)
    )


def _inputs(subject: Subject) -> Iterator[tuple[Role, Tensor]]:
    return ((role, tensor) for role, tensor in subject.ranker.tensors() if role != "output")


def _are_ignored(subject: Subject, tensors: Sequence[Tensor], seed: int) -> bool:
    """Whether other values of these inputs change no score: of many users at small sizes, then of some at large ones.

    What is read is seen at the first. Values of which nothing is known are drawn from small to large ones at last.
    """
    ranker = subject.ranker
    small = {axis.name: min(axis.max, max(axis.min, SMALL)) for axis in ranker.axes}
    for place, (sizes, users) in enumerate(((small, NUM_USERS), (ranker.sizes("opt"), 2), (ranker.sizes("max"), 1))):
        rng = np.random.default_rng([seed, place])
        inputs, others = (draw_inputs(ranker, sizes, users, rng) for _ in range(2))
        if _change_scores(subject, inputs, {tensor.name: others[tensor.name] for tensor in tensors}):
            return False
    if not set(tensors) & set(_unknown(subject)):
        return True
    inputs = draw_inputs(ranker, small, NUM_USERS, np.random.default_rng(seed))
    return all(_are_ignored_if_large(subject, tensors, inputs, high) for high in LARGE_VALUES)


def _unknown(subject: Subject) -> list[Tensor]:
    """Inputs of integers of which nothing is known."""
    return [t for t in subject.ranker.inputs if t.numpy_dtype.kind in "iu" and t.high is None]


def _are_ignored_if_large(subject: Subject, tensors: Sequence[Tensor], inputs: Arrays, high: int) -> bool:
    """Whether other values of `tensors` change no score where unknown values are up to `high`."""
    rng = np.random.default_rng(high)

    def drawn() -> Arrays:
        return {
            tensor.name: rng.integers(0, min(high, np.iinfo(tensor.dtype).max), inputs[tensor.name].shape).astype(
                tensor.numpy_dtype
            )
            for tensor in _unknown(subject)
        }

    large, others = {**inputs, **drawn()}, drawn()
    changed = {tensor.name: others[tensor.name] for tensor in tensors if tensor.name in others}
    try:
        return not _change_scores(subject, large, changed)
    except RunError:  # it looks something up
        return False


def _change_scores(subject: Subject, inputs: Arrays, others: Arrays) -> bool:
    before, after = (subject.served[WHOLE](each) for each in (inputs, {**inputs, **others}))
    return any(not np.array_equal(before[name], after[name]) for name in before)
