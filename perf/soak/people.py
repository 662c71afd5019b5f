"""The users of a soak, with histories of every length and the scores that the torch module gives for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cleave.clients import RankerClient, Ranking

USERS = 96
LONGEST = 64
"""The most events of a history; a user who has so many begins anew with few."""
POOL = 48
"""The candidates of each user, of which a request takes some."""
TOLERANCE = 1e-5
"""The largest difference from the torch module's scores, which adds float32 in another order. One event more or less
changes nearly all scores by more."""
HISTORY, REQUEST, CANDIDATE = "history", "request", "candidate"
"""Roles of inputs, as they are written before their names in the file."""
_TRUTH = "truth"

Array = NDArray[Any]


@dataclass(frozen=True)
class Call:
    """The inputs of one request by role, as `RankerClient.rank` takes them."""

    history: Mapping[str, Array]
    request: Mapping[str, Array]
    candidates: Mapping[str, Array]


@dataclass(frozen=True)
class People:
    """All users: inputs by role and name, [users, ...], and the truth.

    A process that asks a server reads them from a file, so that it needs no torch.
    """

    inputs: Mapping[str, Mapping[str, Array]]
    """Histories [users, LONGEST, ...], requests [users, ...], candidates [users, POOL, ...]."""
    truth: Array
    """Scores of the torch module, [users, LONGEST, POOL]: place n is that of the first n + 1 events."""

    def call(self, user: int, num_events: int, candidates: Array) -> Call:
        """A request about the first events of a user's history.

        Args:
            candidates: places in the user's pool, [num_candidates].
        """
        return Call(
            {name: array[user, :num_events] for name, array in self.inputs[HISTORY].items()},
            {name: array[user] for name, array in self.inputs[REQUEST].items()},
            {name: array[user, candidates] for name, array in self.inputs[CANDIDATE].items()},
        )

    def is_right(self, scores: Array, user: int, num_events: int, candidates: Array) -> bool:
        """Whether scores, [num_candidates], are those of the first events of a user's history."""
        expected = self.truth[user, num_events - 1, candidates]
        return scores.shape == expected.shape and bool(np.max(np.abs(scores - expected)) <= TOLERANCE)

    def rank(
        self, client: RankerClient, user: int, *, deadline: float, user_id: str | None = None, by_id: bool = False
    ) -> tuple[Ranking, bool]:
        """A ranking of all candidates of a user by the longest history, and whether its scores are right.

        Args:
            by_id: leave the history out.

        Raises:
            RankerError: there is none.
        """
        candidates = np.arange(POOL)
        call = self.call(user, LONGEST, candidates)
        ranking = client.rank(
            call.candidates,
            user_id=user_id,
            history=None if by_id else call.history,
            request=call.request,
            deadline=deadline,
        )
        return ranking, self.is_right(ranking.scores, user, LONGEST, candidates)

    def write(self, file: Path) -> None:
        """Write all of it for `read_people`."""
        named = {f"{role}.{name}": array for role, arrays in self.inputs.items() for name, array in arrays.items()}
        np.savez(file, **{_TRUTH: self.truth}, **named)


def read_people(file: Path) -> People:
    """What `People.write` wrote."""
    inputs: dict[str, dict[str, Array]] = {role: {} for role in (HISTORY, REQUEST, CANDIDATE)}
    with np.load(file) as arrays:
        for key in arrays.files:
            role, _, name = key.partition(".")
            if name:
                inputs[role][name] = arrays[key]
        return People(inputs, arrays[_TRUTH])
