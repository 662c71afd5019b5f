from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cleave.builders.cut.item_catalogue import CatalogueError, read_catalogue, write_catalogue
from cleave.builders.zoo.append import append
from cleave.builders.zoo.movielens import NUM_GENRES

RANKER = append(num_items=20, width=8)
ITEMS = {
    "candidate_items": np.arange(1, 6),
    "candidate_genres": np.eye(5, NUM_GENRES, dtype=np.float32),
}


def read(file: Path) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return read_catalogue(file, RANKER, "candidate_items")


def test_a_catalogue_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "new" / "items.parquet"
    write_catalogue(file, ITEMS)
    items = read(file)
    for tensor in RANKER.candidate:
        assert items[tensor.name].dtype == tensor.numpy_dtype
        np.testing.assert_array_equal(items[tensor.name], ITEMS[tensor.name])


def test_other_columns_and_whole_numbers_for_floats_will_do(tmp_path: Path) -> None:
    file = tmp_path / "items.parquet"
    genres = ITEMS["candidate_genres"].astype(np.int64).tolist()
    pl.DataFrame(
        {"title": list("abcde"), "candidate_items": [1, 2, 3, 4, 5], "candidate_genres": genres}
    ).write_parquet(file)
    np.testing.assert_array_equal(read(file)["candidate_genres"], ITEMS["candidate_genres"])


def _edited(column: str, values: list[Any]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(pl.Series(column, values))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda frame: frame.drop("candidate_genres"), "expected a column 'candidate_genres', got candidate_items"),
        (lambda frame: frame.clear(), "expected at least one item, got none"),
        (_edited("candidate_items", [1, 2, 3, 4, 4]), "expected each id once, got 4 again"),
        (_edited("candidate_items", [-1, 2, 3, 4, 5]), "expected ids from 0, got -1"),
        (_edited("candidate_items", [1, 2, 3, 4, None]), "expected a number in every row"),
        (_edited("candidate_items", [0.5, 1.5, 2.5, 3.5, 4.5]), "expected int64, got Float64"),
        (_edited("candidate_genres", [[0.0] * 3] * 5), r"expected \[20\] numbers an item"),
        (_edited("candidate_genres", [[0.0] * 3, *[[0.0] * 20] * 4]), r"expected \[20\] numbers an item"),
        (_edited("candidate_genres", [[float("nan")] * 20] * 5), "got null or NaN"),
    ],
)
def test_what_does_not_fit_is_named(edit: Callable[[pl.DataFrame], pl.DataFrame], message: str, tmp_path: Path) -> None:
    file = tmp_path / "items.parquet"
    write_catalogue(file, ITEMS)
    edit(pl.read_parquet(file)).write_parquet(file)
    with pytest.raises(CatalogueError, match=message):
        read(file)


def test_what_is_no_parquet_is_named(tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text("candidate_items\n1\n")
    for path in (file, tmp_path / "nowhere"):
        with pytest.raises(CatalogueError, match="cannot be read as parquet"):
            read(path)
