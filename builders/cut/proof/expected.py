"""What everything that is served must equal: the scores of the torch module, for one user, without padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cleave.builders.cut.proof.agreement import Agreement, ParityError, Referee, Rows
from cleave.builders.cut.proof.truth import torch_outputs
from cleave.builders.cut.proof.users import as_module_takes, lengths_of, real_rows, sizes_in_words
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays, repeated_for_candidates
from cleave.builders.spec import Ranker

ROWS = 128
"""Candidates that the module scores one by one at a time, as rows of a batch."""
FEW_ROWS = 1024
"""Fewer are not worth sharing out among cores, least of all among busy ones."""


@dataclass(frozen=True)
class Expected:
    """Outputs of the module, `[1, candidates, ...]` by name, and how it was asked for them."""

    outputs: Arrays
    inputs: Arrays
    rows: Rows

    def at(self, order: AnyArray) -> Expected:
        """Of these candidates of the list alone."""
        return Expected(at(self.outputs, order), self.inputs, lambda outputs: at(self.rows(outputs), order))

    def agreement(self, got: Arrays, referee: Referee, by_size: bool = False) -> Agreement:
        """How far from these what is served is; `by_size` as of `Referee.agreement`."""
        return referee.agreement(self.inputs, self.outputs, got, self.rows, by_size)


def at(outputs: Arrays, order: AnyArray) -> Arrays:
    """The outputs of these candidates."""
    return {name: values[:, order] for name, values in outputs.items()}


def expected_of_user(ranker: Ranker, user: Arrays, is_finite: bool = True) -> Expected:
    """What the module gives for one user whose candidates are scored together.

    Args:
        is_finite: refuse other scores.

    Raises:
        UserCodeError: the module fails at these sizes.
        ParityError: it gives something else than finite numbers.
    """
    lengths, inputs = lengths_of(ranker, user), as_module_takes(ranker, user)

    def rows(outputs: Arrays) -> Arrays:
        return real_rows(ranker, outputs, 0, lengths)

    expected = Expected(rows(_run(ranker, inputs)), inputs, rows)
    return _finite(ranker, expected, lengths) if is_finite else expected


def expected_one_by_one(ranker: Ranker, user: Arrays) -> Expected:
    """What the module gives for one user whose candidates are each scored alone.

    Raises: as above.
    """

    def rows(outputs: Arrays) -> Arrays:
        return {name: np.swapaxes(values[:, :1], 0, 1) for name, values in outputs.items()}

    lengths = lengths_of(ranker, user)
    inputs = as_module_takes(ranker, repeated_for_candidates(ranker, user))
    parts = [
        _run(ranker, {name: values[start : start + ROWS] for name, values in inputs.items()})
        for start in range(0, lengths[ranker.candidate_axis.name], ROWS)
    ]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return _finite(ranker, Expected(rows(outputs), inputs, rows), lengths)


def _run(ranker: Ranker, inputs: Arrays) -> Arrays:
    threads = torch.get_num_threads()
    try:
        if sum(lengths_of(ranker, inputs).values()) < FEW_ROWS:
            torch.set_num_threads(1)
        return torch_outputs(ranker, inputs)
    finally:
        torch.set_num_threads(threads)


def _finite(ranker: Ranker, expected: Expected, lengths: dict[str, int]) -> Expected:
    for name, values in expected.outputs.items():
        if np.isfinite(values).all():
            continue
        empty = [axis for axis in ranker.axes if not lengths[axis.name]]
        got = float(values[~np.isfinite(values)][0])
        if not empty:
            raise ParityError(
                f"ranker {ranker.name!r}: output {name!r} for random inputs ({sizes_in_words(lengths)}): expected "
                f"finite numbers, got {got}; keep divisors away from zero, and mask weights with a large negative "
                "number instead of minus infinity"
            )
        raise ParityError(
            f"ranker {ranker.name!r}: output {name!r} for a user without {empty[0].name}: expected finite numbers, got "
            f"{got}; let attention over no keys be zero: mask weights with a large negative number instead of minus "
            "infinity, and values with zero; or, if such a user is never asked for, write "
            f"Axis({empty[0].name!r}, ..., min_real=1), and clients refuse to ask"
        )
    return expected
