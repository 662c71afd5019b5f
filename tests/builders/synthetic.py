"""A small data set with something to learn, for tests that need no real one."""

from __future__ import annotations

import numpy as np

from cleave.builders.training.data_movielens import GENRES, MovieLens


def synthetic_movielens(num_users: int, num_items: int, seed: int) -> MovieLens:
    """Users who like the films of one half of the catalogue, with 20 to 60 ratings each over several days."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(20, 60, num_users)
    users = np.repeat(np.arange(num_users), counts)
    items = np.concatenate([rng.choice(num_items, count, replace=False) + 1 for count in counts])
    likes_first_half = (np.arange(num_users) % 2 == 0)[users]
    liked = (items <= num_items // 2) == likes_first_half
    ratings = np.where(rng.random(len(items)) < 0.95, np.where(liked, 9, 3), rng.integers(1, 11, len(items)))
    genres = (rng.random((num_items + 1, len(GENRES))) < 0.1).astype(np.float32)
    genres[0] = 0
    return MovieLens(
        name="synthetic",
        user_ids=np.arange(num_users) * 3 + 1,
        starts=np.concatenate(([0], np.cumsum(counts))),
        items=items.astype(np.int32),
        ratings=ratings.astype(np.int8),
        # Several ratings share a time, some an hour.
        times=np.concatenate([np.sort(rng.integers(0, 300, count)) * 1000 for count in counts]),
        item_ids=np.concatenate(([0], np.arange(num_items) * 2 + 5)),
        titles=("", *(f"Film {item}" for item in range(num_items))),
        genres=genres,
        ages=rng.integers(0, 8, num_users),
        genders=rng.integers(0, 3, num_users),
        occupations=rng.integers(0, 22, num_users),
    )
