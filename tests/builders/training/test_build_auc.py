"""What fewer bits cost in accuracy is evaluated where there is data, and nothing is fetched for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cleave.builders.cut.cut import Cut
from cleave.builders.cut.narrow import narrowed
from cleave.builders.training import data
from cleave.builders.training.build_auc import aucs_of_build, aucs_on_test_part
from cleave.builders.training.data_download import DATA_VARIABLE
from cleave.builders.training.evaluate import evaluate
from cleave.builders.training.train import max_events_of, score_of
from tests.builders.synthetic import synthetic_movielens
from tests.zoo_cuts import zoo_cut


def test_a_build_fetches_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the first start of a server that may not reach the internet."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    told: list[str] = []
    assert aucs_of_build(zoo_cut("vista"), zoo_cut("vista"), None, told.append) is None
    assert told == ["vista: no test AUC, for want of data; `cleave catalogue FILE` fetches MovieLens-100k"]
    assert list(tmp_path.iterdir()) == []


def test_a_ranker_of_other_inputs_has_no_test_set(small_cut: Cut, tmp_path: Path) -> None:
    assert aucs_of_build(small_cut, narrowed(small_cut, "float16"), tmp_path, pytest.fail) is None


def test_the_aucs_are_those_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = synthetic_movielens(num_users=20, num_items=80, seed=0)
    monkeypatch.setattr(data, "load", lambda path: ratings)
    cut = zoo_cut("vista")
    before, after = aucs_on_test_part(cut, narrowed(cut, "float32", "int8"))
    expected = evaluate(score_of(cut.ranker.module), ratings, "test", max_events_of(cut.ranker)).auc
    assert before == pytest.approx(expected, abs=1e-4)
    assert after == pytest.approx(expected, abs=1e-2)
    assert after != before
