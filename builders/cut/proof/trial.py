"""Tries the cases of a proof, and counts what was tried."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from cleave.builders.cut.proof.blame import Blame
from cleave.builders.cut.proof.cases import SMALL, CandidateList, Users
from cleave.builders.cut.proof.expected import Expected, at, expected_of_user
from cleave.builders.cut.proof.pool import Pool
from cleave.builders.cut.proof.subject import USERS_APART, WHOLE, Subject
from cleave.builders.cut.proof.users import (
    Lengths,
    as_module_takes,
    bucket_sizes,
    draw_user,
    joined,
    lengths_of,
    padded,
    real_rows,
    with_candidates,
)
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays
from cleave.builders.user_code.failure import UserCodeError

LONG_LIST = 64
"""Of longer lists the module scores a sample for each user: whether lists change scores is asked of one user."""
SAMPLE = 8


@dataclass
class Tally:
    """What was tried so far."""

    users: int = 0
    lists: int = 0
    largest: dict[str, int] = field(default_factory=dict)
    difference: float = 0.0
    left_out: Counter[str] = field(default_factory=Counter)

    def saw(self, lengths: Lengths) -> None:
        for axis, length in lengths.items():
            self.largest[axis] = max(self.largest.get(axis, 0), length)


class Trial:
    """Tries one case after the other.

    Raises:
        ParityError, UserCodeError, RunError: see `cleave.builders.cut.proof.search`.
    """

    def __init__(self, subject: Subject, seed: int) -> None:
        self.subject = subject
        self.ranker = subject.ranker
        self.seed = seed
        self.tally = Tally()
        self.blame = Blame(subject, seed)
        self.pool = Pool(subject.ranker, seed)

    def __call__(self, case: Users | CandidateList) -> None:
        if isinstance(case, Users):
            self._users(case)
        else:
            self._candidate_list(case)

    def _users(self, case: Users) -> None:
        """Users in one batch, each against the module for that user alone."""
        users = [
            draw_user(self.ranker, lengths, self.seed, case.seed, place, alike=case.alike)
            for place, lengths in enumerate(case.lengths)
        ]
        samples = [_sample(lengths[self.ranker.candidate_axis.name], self.seed) for lengths in case.lengths]
        expected = [
            expected_of_user(self.ranker, with_candidates(self.ranker, user, sample))
            for user, sample in zip(users, samples, strict=True)
        ]
        for sizes in case.paddings:
            outputs = self._outputs(joined([padded(self.ranker, user, sizes) for user in users]), sizes)
            for row, (user, sample) in enumerate(zip(users, samples, strict=True)):
                whole = self._whole(user, outputs[WHOLE], row)
                for way, output in outputs.items():
                    got = real_rows(self.ranker, output, row, case.lengths[row])
                    if not (self._agree(expected[row], at(got, sample)) and self._agree(whole, got)):
                        raise self.blame.of_user(way, users, row, sample, sizes)
        self.tally.users += len(users)
        for lengths in case.lengths:
            self.tally.saw(lengths)

    def _whole(self, user: Arrays, outputs: Arrays, row: int) -> Expected:
        """What the whole model gives for all candidates, which its parts must give, too."""
        lengths = lengths_of(self.ranker, user)
        return Expected(
            real_rows(self.ranker, outputs, row, lengths),
            as_module_takes(self.ranker, user),
            lambda outputs: real_rows(self.ranker, outputs, 0, lengths),
        )

    def _candidate_list(self, case: CandidateList) -> None:
        """A list, by the module and as it is served, against its candidates one by one."""
        user, expected = self.pool.user(case.order), self.pool.expected(case.order)
        lengths = lengths_of(self.ranker, user)
        if len(case.order) > self.ranker.candidate_axis.max:
            self._longer_list(user, expected, lengths)
            return
        sizes = bucket_sizes(self.ranker, [lengths])
        outputs = self._outputs(padded(self.ranker, user, sizes), sizes)
        served = [(way, real_rows(self.ranker, output, 0, lengths)) for way, output in outputs.items()]
        for way, scores in [(WHOLE, expected_of_user(self.ranker, user).outputs), *served]:
            if not self._agree(expected, scores):
                raise self.blame.of_list(way, user, sizes)
        self.tally.lists += 1
        self.tally.saw(lengths)

    def _longer_list(self, user: Arrays, expected: Expected, lengths: Lengths) -> None:
        """A list that is served in parts, which are lists like others: the module alone is asked for all of it."""
        try:
            together = expected_of_user(self.ranker, user).outputs
        except UserCodeError:
            return  # it need not take so many
        if not self._agree(expected, together):
            raise self.blame.of_list(WHOLE, user, lengths)
        self.tally.lists += 1

    def _outputs(self, inputs: Arrays, sizes: Lengths) -> dict[str, Arrays]:
        """What each way to serve gives for a batch.

        Summaries of single users are wrong at any size or at none: what may go wrong is the place of the batch.
        """
        one_user = len(next(iter(inputs.values()))) == 1
        left_out = {USERS_APART} if one_user or max(sizes.values()) > SMALL else set()
        return {way: scores(inputs) for way, scores in self.subject.served.items() if way not in left_out}

    def _agree(self, expected: Expected, got: Arrays) -> bool:
        found = expected.agreement(got, self.subject.referee)
        if found.disagreement is None:
            self.tally.difference = max(self.tally.difference, found.difference)
        return found.disagreement is None


def _sample(count: int, seed: int) -> AnyArray:
    """The candidates of a list that the module scores: all, or the first, the last and some others."""
    if count <= LONG_LIST:
        return np.arange(count)
    chosen = np.random.default_rng([seed, count]).integers(0, count, SAMPLE)
    sample: AnyArray = np.unique([0, count - 1, *chosen])
    return sample
