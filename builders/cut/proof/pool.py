"""One user with a long list of candidates, and the score of each of them alone."""

from __future__ import annotations

import numpy as np

from cleave.builders.cut.proof.expected import Expected, expected_one_by_one
from cleave.builders.cut.proof.lengths import longest_list
from cleave.builders.cut.proof.plan_lists import lengths_of_list
from cleave.builders.cut.proof.users import as_module_takes, draw_user, with_candidates
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays, repeated_for_candidates
from cleave.builders.spec import Ranker

CHUNK = 256
"""Candidates that are scored one by one when the first of them is asked for."""


class Pool:
    """Candidates from which the lists of a proof are made."""

    def __init__(self, ranker: Ranker, seed: int) -> None:
        self._ranker = ranker
        self._user = draw_user(ranker, lengths_of_list(ranker, longest_list(ranker.candidate_axis)), seed)
        self._scores: dict[int, Expected] = {}

    def user(self, order: AnyArray) -> Arrays:
        """The user with these candidates, by their place in the pool: `[1, len(order), ...]`."""
        return with_candidates(self._ranker, self._user, order)

    def expected(self, order: AnyArray) -> Expected:
        """What the module gives for each of these candidates alone: `[1, len(order), ...]`."""
        needed, row_of = np.unique(order // CHUNK, return_inverse=True)
        chunks = [self._chunk(int(chunk)) for chunk in needed]
        places = row_of * CHUNK + order % CHUNK  # of all chunks only the last of the pool may be shorter
        outputs = {
            name: np.concatenate([chunk.outputs[name] for chunk in chunks], axis=1)[:, places]
            for name in chunks[0].outputs
        }
        inputs = as_module_takes(self._ranker, repeated_for_candidates(self._ranker, self.user(order)))
        return Expected(outputs, inputs, chunks[0].rows)

    def _chunk(self, chunk: int) -> Expected:
        if chunk not in self._scores:
            rows = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
            self._scores[chunk] = expected_one_by_one(self._ranker, with_candidates(self._ranker, self._user, rows))
        return self._scores[chunk]
