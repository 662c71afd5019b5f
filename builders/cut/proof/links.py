"""The links between the module, asked for one user, and the server: each may change a score, and none should.

Exporting the module, padding a user, scoring candidates in a list, users in a batch, cutting the graph. Every method
here compares what is before a link with what is behind it, and says how far apart they are, or None.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cleave.builders.cut.proof.expected import Expected, at, expected_of_user, expected_one_by_one
from cleave.builders.cut.proof.subject import WHOLE, Subject
from cleave.builders.cut.proof.users import Lengths, joined, lengths_of, padded, real_rows, with_candidates
from cleave.builders.names import LEFT, RIGHT, PaddingSide
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays
from cleave.builders.spec import Axis, Ranker, Tensor


class Links:
    """The links of one subject."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.ranker = subject.ranker

    def exported(self, user: Arrays) -> str | None:
        """The module and its graph, on the same inputs."""
        return self.padded(user, {})

    def padded(self, user: Arrays, sizes: Lengths) -> str | None:
        """The module, and the graph for the user with some axes padded."""
        return self._disagreement(expected_of_user(self.ranker, user), self._whole(user, sizes, self.ranker))

    def padded_otherwise(self, user: Arrays, axis: Axis, size: int) -> str | None:
        """The same with one axis padded, and that on its other side."""
        ranker = with_axis(self.ranker, axis, dataclasses.replace(axis, padding_side=other_side(axis)))
        got = self._whole(user, {axis.name: size}, ranker)
        return self._disagreement(expected_of_user(self.ranker, user), got)

    def listed(self, user: Arrays, order: AnyArray) -> str | None:
        """The module for the candidates at these places of a list one by one, and for the list."""
        together = expected_of_user(self.ranker, user).outputs
        alone = expected_one_by_one(self.ranker, with_candidates(self.ranker, user, order))
        return self._disagreement(alone, at(together, order))

    def batched(
        self, users: Sequence[Arrays], row: int, order: AnyArray, sizes: Lengths, way: str = WHOLE
    ) -> str | None:
        """The module for a user, and what is served for that user in a batch."""
        batch = joined([padded(self.ranker, user, sizes) for user in users])
        outputs = self.subject.served[way](batch)
        got = real_rows(self.ranker, outputs, row, lengths_of(self.ranker, users[row]))
        expected = expected_of_user(self.ranker, with_candidates(self.ranker, users[row], order))
        return self._disagreement(expected, at(got, order))

    def place_matters(self, user: Arrays, count: int) -> bool:
        """Whether the module gives a list of one candidate over and over several scores."""
        same = expected_of_user(self.ranker, with_candidates(self.ranker, user, np.zeros(count, np.int64)))
        return self._disagreement(same.at(np.zeros(count, np.int64)), same.outputs) is not None

    def _disagreement(self, expected: Expected, got: Arrays) -> str | None:
        return expected.agreement(got, self.subject.referee).disagreement

    def _whole(self, user: Arrays, sizes: Lengths, ranker: Ranker) -> Arrays:
        larger = {axis.name: max(axis.min, sizes.get(axis.name, 0)) for axis in ranker.axes}
        outputs = self.subject.served[WHOLE](padded(ranker, user, larger))
        return real_rows(ranker, outputs, 0, lengths_of(ranker, user))


def other_side(axis: Axis) -> PaddingSide:
    """Where the padding of an axis does not stand."""
    return LEFT if axis.padding_side == RIGHT else RIGHT


def with_axis(ranker: Ranker, axis: Axis, other: Axis) -> Ranker:
    """The ranker with `other` in place of one axis."""

    def replaced(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(
            dataclasses.replace(tensor, axes=tuple(other if each == axis else each for each in tensor.axes))
            for tensor in tensors
        )

    return dataclasses.replace(
        ranker,
        user=replaced(ranker.user),
        request=replaced(ranker.request),
        candidate=replaced(ranker.candidate),
        output=replaced(ranker.output),
    )
