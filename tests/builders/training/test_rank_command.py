from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cleave import cli
from tests.clients.fake_triton import Arrays, FakeTriton

MAX_HISTORY = 4
DTYPES = {
    "history_items": "int64",
    "history_ratings": "int64",
    "request_hour": "int64",
    "user_age": "int64",
    "user_gender": "int64",
    "user_occupation": "int64",
    "candidate_items": "int64",
    "candidate_genres": "float32",
    "scores": "float32",
}
AXES: dict[str, list[str | int]] = {
    "history_items": ["history"],
    "history_ratings": ["history"],
    "candidate_items": ["candidates"],
    "candidate_genres": ["candidates", 20],
}
SIGNATURE: dict[str, Any] = {
    "axes": {
        "history": {"min": 1, "opt": 1, "max": MAX_HISTORY, "buckets": [MAX_HISTORY]},
        "candidates": {"min": 1, "opt": 2, "max": 2, "buckets": [2]},
    },
    "inputs": {
        name: {
            "role": {"history": "user", "candidate": "candidate"}.get(name.split("_")[0], "request"),
            "axes": AXES.get(name, []),
            "pad": 0,
        }
        for name in DTYPES
        if name != "scores"
    },
    "outputs": {"scores": {"axes": ["candidates"]}},
}

FILMS = """movieId,title,genres
10,First (1990),Action
20,"Second, The (1991)",Comedy|Drama
30,Third (1992),(no genres listed)
"""
RATINGS = """userId,movieId,rating,timestamp
7,10,4.5,3600
7,30,2.0,7200
9,10,1.0,1
9,20,2.0,2
9,30,3.0,3
9,10,4.0,4
9,20,5.0,5
"""


def scores_of(inputs: Arrays, _: grpc.ServicerContext) -> Arrays:
    """The later item the higher, with the length of the history and the hour in the decimals."""
    length = (inputs["history_items"] != 0).sum(axis=1, keepdims=True)
    scores = inputs["candidate_items"] / 10 + length / 100 + inputs["request_hour"] / 1000
    return {"scores": scores.astype(np.float32)}


@pytest.fixture
def movielens_triton(triton: FakeTriton) -> FakeTriton:
    triton.model = "append_uncached"
    triton.tensors = triton.signature = SIGNATURE
    triton.dtypes = DTYPES
    triton.infer = scores_of
    return triton


@pytest.fixture
def cached_triton(movielens_triton: FakeTriton) -> FakeTriton:
    """Serves `append`, and calls every user by id known."""
    movielens_triton.model = "append"
    movielens_triton.tensors = movielens_triton.signature = {
        "axes": SIGNATURE["axes"],
        "inputs": {**SIGNATURE["inputs"], "user_id": {"role": "user_id", "axes": [], "pad": 0}},
        "outputs": {**SIGNATURE["outputs"], "summary_status": {"axes": []}},
        "summary_cache": "append_summary_cache",
    }
    movielens_triton.dtypes = {**DTYPES, "user_id": "O", "summary_status": "O"}
    movielens_triton.optional = {"user_id", "history_items", "history_ratings"}

    def infer(inputs: Arrays, context: grpc.ServicerContext) -> Arrays:
        status = "miss" if "history_items" in inputs else "hit"
        history = {"history_items": np.ones((1, 2), np.int64)}
        return scores_of(history | inputs, context) | {"summary_status": np.array([[status.encode()]], object)}

    movielens_triton.infer = infer
    return movielens_triton


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "movies.csv").write_text(FILMS)
    (tmp_path / "ratings.csv").write_text(RATINGS)
    return tmp_path


def rank(triton: FakeTriton, data: Path, *options: str) -> int:
    """Asks `append_uncached` where the options name no other arm."""
    return cli.main(["rank", "append", "--url", triton.url, "--data", str(data), "--arm", "uncached", *options])


def test_the_table(movielens_triton: FakeTriton, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rank(movielens_triton, data, "--user", "7", "--top", "2") == 0
    printed = capsys.readouterr()
    assert printed.out == (
        "  place    score  title               rated\n"
        "-------  -------  ------------------  -------\n"
        "      1   0.3220  Third (1992)        2 stars\n"
        "      2   0.2220  Second, The (1991)\n"
    )
    assert printed.err == ""


def test_json_with_more_places_than_films(
    movielens_triton: FakeTriton, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(movielens_triton, data, "--user", "7", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    films = result.pop("films")
    assert result == {
        "model": "append_uncached",
        "data": data.name,
        "user": 7,
        "summary_status": None,
        "history_events": 2,
        "num_candidates": 3,
    }
    assert films[0] == {
        "place": 1,
        "film": 30,
        "title": "Third (1992)",
        "score": pytest.approx(0.322),
        "rated": 2.0,
    }
    assert [(film["film"], film["rated"]) for film in films] == [(30, 2.0), (20, None), (10, 4.5)]


def test_a_history_beyond_the_axis_is_cut_and_said(
    movielens_triton: FakeTriton, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(movielens_triton, data, "--user", "9") == 0
    assert "history cut to the most recent 4 of 5 events" in capsys.readouterr().err
    assert movielens_triton.requests[0]["history_ratings"].tolist() == [[4, 6, 8, 10]]


def test_the_arm_names_the_model(movielens_triton: FakeTriton, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    movielens_triton.model = "append_whole"
    assert rank(movielens_triton, data, "--user", "7", "--arm", "single_pass", "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "append_whole"


def test_the_user_is_named_and_the_history_sent(
    cached_triton: FakeTriton, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(cached_triton, data, "--user", "7", "--json", "--arm", "cached") == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["model"], result["summary_status"], result["history_events"]) == ("append", "miss", 2)
    assert printed.err == "summary: miss\n"
    assert cached_triton.requests[0]["user_id"].tolist() == [[b"7"]]


def test_by_id_no_history_is_sent(cached_triton: FakeTriton, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rank(cached_triton, data, "--user", "9", "--json", "--arm", "cached", "--by-id") == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["summary_status"], result["history_events"]) == ("hit", None)
    assert printed.err == "summary: hit\n"
    assert "history_items" not in cached_triton.requests[0]


def test_by_id_is_for_the_arm_that_keeps_summaries(
    movielens_triton: FakeTriton, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(movielens_triton, data, "--user", "7", "--by-id") == cli.EXIT_WRONG_USE
    assert "--by-id: expected --arm cached, got uncached; leave out one of them" in capsys.readouterr().err


def test_a_model_that_is_not_served(
    movielens_triton: FakeTriton, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movielens_triton.model = "concat_uncached"
    assert rank(movielens_triton, data, "--user", "7") == cli.EXIT_WRONG_USE
    error = capsys.readouterr().err
    assert error.startswith(f"cleave rank: append_uncached at {movielens_triton.url}: the server does not have it")
    assert error.endswith("; `cleave serve append` starts a server of it\n")


def test_no_server(movielens_triton: FakeTriton, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    movielens_triton.stop()
    assert rank(movielens_triton, data, "--user", "7") == cli.EXIT_WRONG_USE
    error = capsys.readouterr().err
    assert error.startswith(f"cleave rank: append_uncached at {movielens_triton.url}: the server cannot be reached")
    assert error.endswith("; `cleave serve append` starts a server of it\n")


def test_an_unknown_user(movielens_triton: FakeTriton, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rank(movielens_triton, data, "--user", "8") == cli.EXIT_WRONG_USE
    printed = capsys.readouterr()
    assert (printed.out, "user 8: not in" in printed.err, "(7 to 9)" in printed.err) == ("", True, True)


@pytest.mark.parametrize("top", ["0", "-1", "ten"])
def test_no_places(movielens_triton: FakeTriton, data: Path, capsys: pytest.CaptureFixture[str], top: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        rank(movielens_triton, data, "--user", "7", "--top", top)
    assert exit_.value.code == cli.EXIT_WRONG_USE
    assert f"expected a whole number of at least 1, got '{top}'" in capsys.readouterr().err
