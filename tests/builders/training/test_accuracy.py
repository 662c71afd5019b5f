"""Tuning and evaluating: what is run, what is kept, what is not run again, and the page that is written."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cleave import cli
from cleave.builders.contract.location import parse_sizes
from cleave.builders.errors import BuilderError
from cleave.builders.load import load_ranker, zoo_sizes
from cleave.builders.training import accuracy, accuracy_page, data, train, tune
from cleave.builders.training.accuracy import Accuracy, Costs, Row, Run
from cleave.builders.training.commands import TRIALS_OUT
from cleave.builders.training.train import TrainSettings
from cleave.builders.training.tune import GRID, TuningTrial
from tests.builders.synthetic import synthetic_movielens
from tests.tables import markdown_rows
from tests.zoo_cuts import zoo_cut

SMALL = {"layers": 1, "width": 8, "heads": 1}
MODELS = ["append", "no_history"]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, TrainSettings, dict[str, Any]]]:
    """What was trained; on a small data set, and for one epoch at a small size, whatever was asked for."""
    movielens = synthetic_movielens(num_users=20, num_items=80, seed=0)
    monkeypatch.setattr(data, "load", lambda path: movielens)
    calls = []

    def small(name: str, given: Any, sizes: dict[str, Any], settings: TrainSettings, show_progress: bool) -> Any:
        calls.append((name, settings, sizes))
        known = zoo_sizes(name, {})
        quick = dataclasses.replace(settings, epochs=1)
        chosen = {**sizes, **{size: value for size, value in SMALL.items() if size in known}}
        return train.train(name, movielens, chosen, quick, show_progress=False)

    monkeypatch.setattr(accuracy, "train", small)
    monkeypatch.setattr(tune, "fit", small)
    return calls


def test_every_model_gets_the_same_search(tmp_path: Path, pool: ThreadPoolExecutor, trainings: list[Any]) -> None:
    file, lines = tmp_path / "tuning.json", list[str]()
    tune.tune(MODELS, None, file, pool, lines.append)
    trials = tune.read_trials(file)
    assert len(lines) == len(MODELS) * sum(map(len, GRID.values()))
    for model in MODELS:
        own = [trial for trial in trials if trial.model == model]
        tried = {(trial.learning_rate, trial.dropout, trial.width) for trial in own}
        assert len(own) == len(tried) == sum(map(len, GRID.values())) - len(GRID) + 1  # the start is tried once
        for name, values in GRID.items():
            assert {getattr(trial, name) for trial in own} == set(values)
        best = tune.best_trial(model, trials)
        assert best is not None
        assert best.validation_auc == max(trial.validation_auc for trial in own)
        assert tune.tuned(model, file) == ({"width": best.width, "dropout": best.dropout}, best.learning_rate)
    assert {(settings.seed, settings.epochs) for _, settings, _ in trainings} == {(0, TrainSettings().epochs)}


def test_the_command_writes_nothing_that_is_tracked(
    tmp_path: Path,
    pool: ThreadPoolExecutor,
    trainings: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cleave.builders.training.commands._training_processes", lambda jobs: pool)
    before = tune.TRIALS.read_bytes()
    assert cli.main(["tune", "--models", "no_history"]) == 0
    assert trainings
    assert tune.TRIALS.read_bytes() == before
    assert [file for file in Path().rglob("*") if file.is_file()] == [TRIALS_OUT]
    (command,) = re.findall(r"^next: cleave (train .*)$", capsys.readouterr().err, re.MULTILINE)
    options = cli.parser().parse_args(shlex.split(command))
    assert (parse_sizes(options.size), options.learning_rate) == tune.tuned("no_history", TRIALS_OUT)


def test_an_interrupted_search_goes_on(tmp_path: Path, pool: ThreadPoolExecutor, trainings: list[Any]) -> None:
    file = tmp_path / "tuning.json"
    tune.tune(["no_history"], None, file, pool, lambda line: None)
    whole, count = json.loads(file.read_text()), len(trainings)
    file.write_text(json.dumps(whole[:-1]))
    tune.tune(["no_history"], None, file, pool, lambda line: None)
    assert len(trainings) == count + 1
    for again, before in zip(json.loads(file.read_text()), whole, strict=True):
        assert {**again, "seconds": 0} == {**before, "seconds": 0}


def test_a_model_never_tuned_has_the_defaults(tmp_path: Path) -> None:
    assert tune.tuned("append", tmp_path / "none.json") == ({}, TrainSettings().learning_rate)


@pytest.mark.parametrize("text", ["{", '[{"model": "append"}]', "[1]"])
def test_a_foreign_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "found.json"
    file.write_text(text)
    with pytest.raises(BuilderError, match=r"found\.json: expected trials"):
        tune.read_trials(file)
    with pytest.raises(BuilderError, match=r"found\.json: expected runs"):
        accuracy.read_runs(file)


def test_models_are_evaluated_with_each_seed(
    tmp_path: Path, pool: ThreadPoolExecutor, trainings: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "cut_ranker", lambda ranker: zoo_cut(ranker.name))  # an export takes seconds
    monkeypatch.setattr(accuracy, "tuned", lambda model: ({"width": 8, "dropout": 0.0}, 0.01))
    file, weights = tmp_path / "runs.json", tmp_path / "weights"
    found = accuracy.evaluate_models(MODELS, 2, None, file, weights, pool, lambda line: None)
    assert [(name, settings.seed, settings.learning_rate) for name, settings, _ in trainings] == [
        (model, seed, 0.01) for model in MODELS for seed in range(2)
    ]
    assert [row.model for row in found.rows] == MODELS
    append, no_history = found.rows
    assert append.costs.flops["per_candidate"] > append.costs.flops["single_pass"] > append.costs.flops["cached"] > 0
    assert append.costs.summary_bytes
    assert list(no_history.costs.flops) == ["per_candidate", "single_pass"]
    assert no_history.costs.summary_bytes is None
    ranker = load_ranker("append", weights=weights)
    assert sum(weight.numel() for weight in ranker.module.parameters()) == append.runs[0].parameters

    again = accuracy.evaluate_models(MODELS, 3, None, file, None, pool, lambda line: None)
    assert len(trainings) == 6  # only the third seed of each
    assert again.rows[0].runs[:2] == append.runs
    with pytest.raises(BuilderError, match="--seeds: expected at least 1, got 0"):
        accuracy.evaluate_models(MODELS, 0, None, file, None, pool, lambda line: None)


def run_of(model: str, seed: int, auc: float) -> Run:
    return Run(model, seed, f"cleave train {model} --seed {seed}", 1234, 3, 0.7, auc, 0.5, 0.9, 1.0)


FLOPS = {"per_candidate": 5_000_000_000, "single_pass": 50_000_000, "uncached": 40_000_000, "cached": 30_000_000}
BASELINE_FLOPS = {"per_candidate": 4_000_000, "single_pass": 3_000_000}


def row_of(model: str, aucs: tuple[float, ...], costs: Costs) -> Row:
    return Row(model, {"width": 32}, 0.01, tuple(run_of(model, seed, auc) for seed, auc in enumerate(aucs)), costs)


FOUND = Accuracy(
    "ml-small",
    {"history": 128, "candidates": 512},
    (
        row_of("append", (0.70, 0.74), Costs(FLOPS, 65_536)),
        row_of("no_history", (0.60, 0.60), Costs(BASELINE_FLOPS, None)),
    ),
)
TRIALS = [
    TuningTrial("append", rate, 0.1, 32, auc, 0.9, 2, 1.0) for rate, auc in ((0.001, 0.71), (0.003, 0.73), (0.01, 0.72))
]


def test_the_page_says_what_was_found(tmp_path: Path) -> None:
    accuracy_page.write_page(FOUND, TRIALS, tmp_path, "cleave evaluate --seeds 2 --out docs")
    page = (tmp_path / accuracy_page.PAGE).read_text()
    rows = [" | ".join(row) for row in markdown_rows(page)]
    deviation = np.std([0.70, 0.74], ddof=1)
    assert f"append | 0.7200 ± {deviation:.4f} | 0.9000 ± 0.0000 | 1,234 | 5 G | 50 M | 40 M | 30 M | 64.0 KiB" in rows
    assert "no_history | 0.6000 ± 0.0000 | 0.9000 ± 0.0000 | 1,234 | 4 M | 3 M | - | - | -" in rows
    assert "no_history | -0.1200" in rows
    assert "append | 0.003 | 0.1 | 32 | **0.7300** | 0.9000 | 2" in rows
    assert page.count("**") == 2
    assert "    cleave evaluate --seeds 2 --out docs\n" in page


def test_the_picture_names_every_model_and_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one.svg", "other.svg"):
        accuracy_page.write_picture(FOUND, tmp_path / name)
    picture = (tmp_path / "one.svg").read_text()
    assert all(row.model in picture for row in FOUND.rows)
    assert picture == (tmp_path / "other.svg").read_text()
