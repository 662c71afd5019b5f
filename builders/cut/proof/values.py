"""Tries values that plain random inputs do not hold: unusual ones, and those of recorded requests.

Lengths are searched elsewhere (`builders.cut.proof.search`). Here users have few rows or those that they had, and what
may differ from the module is the graph: it rounds before a floor, wraps around, or compares in another type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cleave.builders.cut.proof.accepted import accepting
from cleave.builders.cut.proof.agreement import ParityError
from cleave.builders.cut.proof.blame import Blame
from cleave.builders.cut.proof.cases import SMALL
from cleave.builders.cut.proof.expected import Expected, expected_of_user
from cleave.builders.cut.proof.plan_users import USERS_OF_A_BATCH
from cleave.builders.cut.proof.subject import USERS_APART, WHOLE, Subject
from cleave.builders.cut.proof.users import (
    as_module_takes,
    bucket_sizes,
    joined,
    least_rows,
    lengths_of,
    padded,
    real_rows,
    sizes_in_words,
)
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays, draw_inputs
from cleave.builders.spec import Tensor
from cleave.builders.user_code.failure import UserCodeError

NUM_UNUSUAL = 60
"""Users whose values are unusual."""
MOST_ROWS = 40
MOST_CANDIDATES = 8
"""Of such a user."""


@dataclass(frozen=True, eq=False)
class Request:
    """What a client sends for one user."""

    where: str
    """Begins a message about it."""
    user: Arrays
    """Every input, `[1, ...]`, without padding."""


def batches(requests: Iterable[Request]) -> Iterator[list[Request]]:
    """As many at a time as share a batch."""
    group: list[Request] = []
    for request in requests:
        group.append(request)
        if len(group) == USERS_OF_A_BATCH:
            yield group
            group = []
    if group:
        yield group


class Values:
    """Tries requests, and counts those whose scores are not finite."""

    def __init__(self, subject: Subject, seed: int = 0) -> None:
        self.subject, self.seed = subject, seed
        self.ranker = subject.ranker
        self.accepting = accepting(subject.ranker, seed)
        """The ranker with bounds for what its module takes."""

    def unusual(self) -> tuple[int, tuple[str, ...]]:
        """Try users with unusual values.

        Returns:
            How many of them have finite scores, and warnings.

        Raises:
            ParityError: names the inputs whose values are scored wrongly.
            RunError: a graph fails on them, where the module does not.
        """
        finite = sum(self._try(group) for group in batches(self._accepted()))
        if finite:
            return finite, ()
        names = ", ".join(repr(tensor.name) for tensor in self.ranker.inputs if tensor.high is None)
        return 0, (
            f"ranker {self.ranker.name!r}: no unusual value was tried, as the module's scores of them are not finite; "
            f"say what requests hold: Tensor(..., low=, high=) for {names}",
        )

    def recorded(self, requests: Iterable[Request]) -> int:
        """Try recorded requests; returns how many.

        Raises:
            ParityError, UserCodeError, RunError: as above; begin with where the request is from.
        """
        count = 0
        for group in batches(requests):
            count += len(group)
            self._try(group, is_recorded=True)
        return count

    def _accepted(self) -> Iterator[Request]:
        """Unusual requests that the module does not raise on."""
        for request in self._unusual_requests():
            try:
                expected_of_user(self.ranker, request.user, is_finite=False)
            except UserCodeError:
                continue
            yield request

    def _unusual_requests(self) -> Iterator[Request]:
        rng = np.random.default_rng([self.seed, 1])
        for _ in range(NUM_UNUSUAL):
            lengths = {
                axis.name: int(rng.integers(least_rows(self.ranker, axis), min(axis.max, MOST_ROWS) + 1))
                for axis in self.ranker.axes
            }
            candidates = self.ranker.candidate_axis
            lengths[candidates.name] = int(rng.integers(1, min(candidates.max, MOST_CANDIDATES) + 1))
            yield Request("unusual values", draw_inputs(self.accepting, lengths, 1, rng, unusual=True))

    def _try(self, group: Sequence[Request], is_recorded: bool = False) -> int:
        """Compare users in one batch with the module; returns how many have finite scores."""
        users = [request.user for request in group]
        expected = [self._expected(request) for request in group]
        sizes = bucket_sizes(self.ranker, [lengths_of(self.ranker, user) for user in users])
        inputs = joined([padded(self.ranker, user, sizes) for user in users])
        for way, served in self.subject.served.items():
            if way == USERS_APART and (len(users) == 1 or max(sizes.values()) > SMALL):
                continue
            outputs = served(inputs)
            for row, (request, right) in enumerate(zip(group, expected, strict=True)):
                got = real_rows(self.ranker, outputs, row, lengths_of(self.ranker, request.user))
                found = right.agreement(got, self.subject.referee, by_size=not is_recorded)
                if found.disagreement is not None and not found.is_undecided:
                    raise self._error(way, group, row, right, sizes, is_recorded)
        return sum(bool(_finite_candidates(each.outputs).size) for each in expected)

    def _expected(self, request: Request) -> Expected:
        try:
            return expected_of_user(self.ranker, request.user, is_finite=False)
        except UserCodeError as error:
            raise UserCodeError(f"{request.where}: {error}") from error

    def _error(
        self,
        way: str,
        group: Sequence[Request],
        row: int,
        expected: Expected,
        sizes: dict[str, int],
        is_recorded: bool,
    ) -> ParityError:
        request = group[row]
        where = f"ranker {self.ranker.name!r}: {request.where}"
        said = self._of_graph(request.user, is_recorded)
        if said is None:
            order = _finite_candidates(expected.outputs)
            blamed = Blame(self.subject, self.seed).of_user(way, [each.user for each in group], row, order, sizes)
            return ParityError(f"{where}: {blamed}")
        culprits = self._culprits(request.user, is_recorded)
        shown = ", ".join(f"{tensor.name} {_shown(request.user[tensor.name])}" for tensor in culprits)
        lengths = sizes_in_words(lengths_of(self.ranker, request.user))
        remedy = (
            "the graph computes these values otherwise than the module: one is on the edge of a bucket, or too large "
            "for a type; move edges between the values, as in torch.log2(gap + 0.5)"
        )
        if not is_recorded:
            names = " and ".join(repr(tensor.name) for tensor in culprits)
            remedy += f", or, if no request holds such values, say so: Tensor(..., low=, high=) for {names}"
        return ParityError(f"{where} ({shown}): ONNX against torch ({lengths}): {said}; {remedy}")

    def _of_graph(self, user: Arrays, is_recorded: bool) -> str | None:
        """How far the graph is from the module, for this user alone and without padding."""
        inputs = as_module_takes(self.ranker, user)
        got = real_rows(self.ranker, self.subject.served[WHOLE](inputs), 0, lengths_of(self.ranker, user))
        expected = expected_of_user(self.ranker, user, is_finite=False)
        return expected.agreement(got, self.subject.referee, by_size=not is_recorded).disagreement

    def _culprits(self, user: Arrays, is_recorded: bool) -> list[Tensor]:
        """The inputs whose values are scored wrongly beside plain ones of the others; all open ones if none is."""
        plain = draw_inputs(self.ranker, lengths_of(self.ranker, user), 1, np.random.default_rng(self.seed))
        alone = [
            tensor
            for tensor in self.ranker.inputs
            if self._of_graph({**plain, tensor.name: user[tensor.name]}, is_recorded) is not None
        ]
        return alone or [tensor for tensor in self.ranker.inputs if tensor.high is None] or list(self.ranker.inputs)


def _finite_candidates(outputs: Arrays) -> AnyArray:
    """The candidates of one user all of whose outputs are finite."""
    finite = [np.isfinite(values[0]).reshape(values.shape[1], -1).all(1) for values in outputs.values()]
    return np.flatnonzero(np.logical_and.reduce(finite))


def _shown(values: AnyArray) -> str:
    if not values.size:
        return "[]"
    low, high = f"{values.min():.17g}", f"{values.max():.17g}"
    return low if low == high else f"{low} to {high}"
