"""Holds one data set of ratings as a model sees it: what was known of a user at each time, and the catalogue."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleave.builders.errors import BuilderError

IntArray = NDArray[np.int64]

GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "IMAX",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""Every genre of MovieLens 100k, 1M, 25M and 32M, so that one model reads any of them; the columns of `genres`."""

AGES = (18, 25, 35, 45, 50, 56)
"""Where ml-1m's seven age groups meet: group 1 is under 18, group 7 is 56 and over, 0 is unknown."""

LIKED = 8
"""A rating of 4 stars, in half stars: what the models predict is a rating of at least this."""

SECONDS_PER_HOUR = 3600


class DataError(BuilderError):
    """A data set that cannot be had or read, or a user that is not in it."""


@dataclass(frozen=True, eq=False)
class MovieLens:
    """Ratings of one data set, user by user, each user's in time order.

    An *event* is one rating; events are numbered over the whole data set, and those of the user in row u are
    `starts[u]` to `starts[u + 1] - 1`. Equal times of one user (a page of films rated at once) are ordered by the
    data set's film id. Items are numbered 1 to `num_items` in the order of the data set's film ids; 0 is padding.
    """

    name: str
    user_ids: IntArray
    """[users]: the data set's ids, ascending."""
    starts: IntArray
    """[users + 1]: the first event of each row."""
    items: NDArray[np.int32]
    """[events]: the item of each."""
    ratings: NDArray[np.int8]
    """[events]: half stars, 1 to 10."""
    times: IntArray
    """[events]: seconds since 1970, UTC."""
    item_ids: IntArray
    """[items + 1]: the data set's film ids, ascending; 0 for the padding."""
    titles: tuple[str, ...]
    """[items + 1]: an empty one for the padding."""
    genres: NDArray[np.float32]
    """[items + 1, 20]: 1 where the film is of that genre of `GENRES`."""
    ages: IntArray
    """[users]: 1 to 7, the groups between `AGES`; 0 unknown."""
    genders: IntArray
    """[users]: 1 female, 2 male; 0 unknown."""
    occupations: IntArray
    """[users]: 1 to 21 in the order of the data set's own list; 0 unknown."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """The number of items, without the padding."""
        return len(self.titles) - 1

    @property
    def num_ratings(self) -> int:
        return len(self.items)

    def row_of_user(self, user_id: int) -> int:
        """The row of the user whom the data set calls `user_id`.

        Raises:
            DataError: there is no such user.
        """
        row = int(np.searchsorted(self.user_ids, user_id))
        if row == self.num_users or self.user_ids[row] != user_id:
            raise DataError(
                f"user {user_id}: not in {self.name}, expected one of its {self.num_users} ids "
                f"({self.user_ids[0]} to {self.user_ids[-1]}); choose another user"
            )
        return row

    def num_events(self, row: int) -> int:
        """How many ratings the user has given."""
        return int(self.starts[row + 1] - self.starts[row])

    def user_inputs(self, row: int, at: int | None = None, max_events: int | None = None) -> dict[str, IntArray]:
        """What a model may know of the user before their rating number `at`: inputs of shape [events].

        Args:
            row: the user's row.
            at: counts from 0; None is after the last.
            max_events: keeps the most recent ones; what the model's history axis holds.
        """
        start = int(self.starts[row])
        end = start + (self.num_events(row) if at is None else at)
        if max_events is not None:
            start = max(start, end - max_events)
        return {
            "history_items": self.items[start:end].astype(np.int64),
            "history_ratings": self.ratings[start:end].astype(np.int64),
        }

    def request_inputs(self, row: int, at: int | None = None) -> dict[str, IntArray]:
        """The request inputs, each of shape []: the user's features and the hour (UTC) of rating `at`.

        After the last rating, the hour is the last rating's.
        """
        event = self.starts[row] + (self.num_events(row) - 1 if at is None else at)
        return self.requests_inputs(np.asarray(row), np.asarray(event))

    def requests_inputs(self, rows: IntArray, events: IntArray) -> dict[str, IntArray]:
        """The request inputs of users in rows [...] at the time of events [...]: inputs of the same shape."""
        inputs = {
            "request_hour": self.times[events] // SECONDS_PER_HOUR % 24,
            "user_age": self.ages[rows],
            "user_gender": self.genders[rows],
            "user_occupation": self.occupations[rows],
        }
        return {name: np.asarray(values, dtype=np.int64) for name, values in inputs.items()}

    def candidate_inputs(self, items: IntArray | None = None) -> dict[str, NDArray[Any]]:
        """The inputs [...] and [..., 20] of candidates [...]; None is the whole catalogue, items 1, 2, ..."""
        if items is None:
            items = np.arange(1, self.num_items + 1)
        return {"candidate_items": items, "candidate_genres": self.genres[items]}
