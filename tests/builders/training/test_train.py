"""Training: it learns, the same each time, and what it writes is what `load_ranker` finds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from cleave import cli
from cleave.builders.load import MODELS, load_ranker, random_ranker, zoo_sizes
from cleave.builders.training import data, train
from cleave.builders.training.accuracy import read_runs
from cleave.builders.training.commands import WEIGHTS_OUT
from cleave.builders.training.data import MovieLens
from cleave.builders.training.data_examples import block_rows, exact_rows
from cleave.builders.training.evaluate import evaluate, predict
from cleave.builders.training.metrics import Metrics, MetricsError
from cleave.builders.training.train import Trained, TrainingError, TrainSettings
from cleave.builders.training.train_output import OPTIONS, save, train_command
from cleave.builders.training.tune import tuned
from cleave.builders.zoo import ZOO
from cleave.builders.zoo.movielens import HISTORY, MovieLensModel
from cleave.builders.zoo.trained import WEIGHTS, TrainedWeights
from tests.builders.synthetic import synthetic_movielens

SMALL = {"layers": 1, "width": 8, "heads": 1, "dropout": 0.0}
SETTINGS = TrainSettings(seed=3, epochs=6, learning_rate=1e-2, weight_decay=0.01, batch=128, patience=6)
ACCURACY = Path(__file__).parents[3] / "docs" / "accuracy.json"
WEIGHTS_LIMIT_BYTES = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small operations on more threads crawl on a machine that has other things to do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def synthetic() -> MovieLens:
    return synthetic_movielens(num_users=60, num_items=80, seed=0)


@pytest.fixture(scope="module")
def trained(synthetic: MovieLens) -> Trained:
    return train.train("append", synthetic, SMALL, SETTINGS, show_progress=False)


def weights_of(trained: Trained) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in trained.ranker.module.state_dict().items()}


def test_it_learns(synthetic: MovieLens, trained: Trained) -> None:
    untrained = random_ranker("append", trained.sizes, seed=3)
    before = evaluate(train.score_of(untrained.module), synthetic, "test", train.max_events_of(untrained))
    assert trained.test.log_loss < before.log_loss - 0.1
    assert trained.test.auc > 0.8
    assert trained.test.normalized_entropy < 0.9
    assert not trained.ranker.module.training
    assert trained.num_parameters == sum(values.size for values in weights_of(trained).values())


def test_the_same_seed_gives_the_same_weights(synthetic: MovieLens, trained: Trained) -> None:
    torch.manual_seed(99)  # the caller's random numbers are neither used nor touched
    state = torch.get_rng_state()
    again = train.train("append", synthetic, SMALL, SETTINGS, show_progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    for name, values in weights_of(again).items():
        np.testing.assert_array_equal(values, weights_of(trained)[name])
    assert again.test == trained.test


def test_another_seed_gives_others(synthetic: MovieLens, trained: Trained) -> None:
    settings = dataclasses.replace(SETTINGS, seed=4, epochs=1)
    other = train.train("append", synthetic, {**SMALL, "dropout": 0.5}, settings, show_progress=False)
    assert any((values != weights_of(trained)[name]).any() for name, values in weights_of(other).items())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_trains(synthetic: MovieLens, name: str) -> None:
    """Each parameter gets a gradient: what does not would stay random for ever."""
    sizes = {size: value for size, value in SMALL.items() if size in zoo_sizes(name, {})}
    ranker = random_ranker(name, {**sizes, "num_items": synthetic.num_items})
    module = ranker.module
    assert isinstance(module, MovieLensModel)
    rows = block_rows(synthetic, "train", 4).take(np.arange(30))
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    module.train()
    train._step(module, optimizer, synthetic, rows, max_events=64)
    assert [name for name, weight in module.named_parameters() if weight.grad is None] == []


def test_parts_of_a_step_add_up(synthetic: MovieLens, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = block_rows(synthetic, "train", 4).take(np.arange(0, 200, 7))
    losses, gradients = [], []
    for max_tokens in (1 << 13, 1):
        monkeypatch.setattr("cleave.builders.training.data_examples.MAX_TOKENS", max_tokens)
        module = random_ranker("append", {**SMALL, "num_items": synthetic.num_items}).module
        assert isinstance(module, MovieLensModel)
        losses.append(train._step(module.eval(), torch.optim.SGD(module.parameters()), synthetic, rows, max_events=64))
        gradients.append([weight.grad for weight in module.parameters()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_it_stops_when_validation_gets_no_better(synthetic: MovieLens, monkeypatch: pytest.MonkeyPatch) -> None:
    aucs = iter([0.6, 0.8, 0.7, 0.7, 0.9, 0.5, 0.5])

    def fake(*arguments: Any) -> Metrics:
        found = evaluate(*arguments)
        return dataclasses.replace(found, auc=next(aucs)) if len(arguments) == 5 else found

    monkeypatch.setattr("cleave.builders.training.train.evaluate", fake)
    settings = dataclasses.replace(SETTINGS, patience=2)
    assert train.train("append", synthetic, SMALL, settings, show_progress=False).best_epoch == 2


def test_labels_and_probabilities_are_in_the_order_of_the_rows(synthetic: MovieLens) -> None:
    rows = block_rows(synthetic, "test", 3)

    def item_as_score(inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
        return inputs["candidate_items"].astype(np.float32)

    labels, scores = predict(item_as_score, synthetic, rows, max_events=10)
    events = exact_rows(synthetic, "test").firsts
    np.testing.assert_array_equal(scores, synthetic.items[events])
    np.testing.assert_array_equal(labels, synthetic.ratings[events] >= 8)


# What is written


def test_weights_come_back(synthetic: MovieLens, trained: Trained, tmp_path: Path) -> None:
    save(trained, tmp_path / "append.safetensors", "cleave train append --seed 3")
    assert [file.name for file in tmp_path.iterdir()] == ["append.safetensors"]
    loaded = load_ranker("append", weights=tmp_path)
    assert loaded.user == trained.ranker.user
    for name, tensor in loaded.module.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), weights_of(trained)[name])
    found = evaluate(train.score_of(loaded.module), synthetic, "test", train.max_events_of(loaded))
    assert found == trained.test
    with safe_open(tmp_path / "append.safetensors", framework="np") as opened:
        metadata = opened.metadata()
    assert json.loads(metadata["sizes"]) == zoo_sizes("append", {**SMALL, "num_items": synthetic.num_items})
    assert metadata["command"] == "cleave train append --seed 3"
    assert json.loads(metadata["metrics"])["test"]["auc"] == trained.test.auc


def test_other_sizes_than_the_trained_ones_get_random_weights(trained: Trained, tmp_path: Path) -> None:
    save(trained, tmp_path / "append.safetensors", "cleave train append")
    same = load_ranker("append", {"width": 8, "dropout": 0.0, "max_events": HISTORY.max}, weights=tmp_path)
    assert torch.equal(same.module.state_dict()["head.candidate.weight"].cpu(), _head(trained))
    other = load_ranker("append", {"dropout": 0.5}, weights=tmp_path)
    assert not torch.equal(other.module.state_dict()["head.candidate.weight"], _head(trained))


def _head(trained: Trained) -> torch.Tensor:
    weight: torch.Tensor = trained.ranker.module.state_dict()["head.candidate.weight"]
    return weight


@pytest.mark.parametrize("file", sorted(WEIGHTS.glob("*.safetensors")), ids=lambda file: file.stem)
def test_committed_weights(file: Path) -> None:
    assert file.stat().st_size <= WEIGHTS_LIMIT_BYTES
    ranker = load_ranker(file.stem)
    sizes, learning_rate = tuned(file.stem)
    assert zoo_sizes(file.stem, TrainedWeights.read(file).sizes) == zoo_sizes(
        file.stem, sizes
    )  # so that no --size is needed to get them
    with safe_open(file, framework="np") as opened:
        metadata = opened.metadata()
    assert metadata["command"] == train_command(file.stem, None, sizes, TrainSettings(learning_rate=learning_rate))
    (run,) = (run for run in read_runs(ACCURACY) if run.command == metadata["command"])
    test = json.loads(metadata["metrics"])["test"]
    assert (run.test_auc, run.test_ne) == (test["auc"], test["normalized_entropy"])
    assert test["auc"] > (0.75 if file.stem in ZOO else 0.7)
    assert all(torch.isfinite(weight).all() for weight in ranker.module.state_dict().values())


def test_committed_weights_know_movielens_100k() -> None:
    """By blocks instead of exact histories, and one block in eight: an estimate in a hundredth of the time."""
    movies = data.load()
    assert (movies.num_users, movies.num_items, movies.num_ratings) == (943, 1682, 100_000)
    ranker = load_ranker("append")
    rows = block_rows(movies, "test", 16)
    rows = rows.take(np.arange(0, len(rows), 8))
    found = evaluate(train.score_of(ranker.module), movies, "test", train.max_events_of(ranker), rows)
    with safe_open(WEIGHTS / "append.safetensors", framework="np") as opened:
        promised = json.loads(opened.metadata()["metrics"])["test"]["auc"]
    assert found.auc == pytest.approx(promised, abs=0.05)


# The command


@pytest.fixture
def synthetic_is_the_data(synthetic: MovieLens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load", lambda path: synthetic)


ARGUMENTS = ["train", "append", "--size", "layers=1,width=8,heads=1,dropout=0", "--epochs", "2", "--seed", "5"]


@pytest.mark.usefixtures("synthetic_is_the_data")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "append.safetensors"
    assert cli.main([*ARGUMENTS, "--data", "/somewhere/ml-1m", "--out", str(file)]) == 0
    printed = capsys.readouterr()
    assert "NE" in printed.out
    assert f"weights: {file}" in printed.out
    assert "validation_auc" in printed.err
    with safe_open(file, framework="np") as opened:
        command = opened.metadata()["command"]
    assert command.startswith("cleave train append --data ml-1m --size dropout=0,heads=1,layers=1,width=8 --seed 5")


@pytest.mark.usefixtures("synthetic_is_the_data")
def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*ARGUMENTS, "--json", "--out", str(tmp_path / "append.safetensors")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["name"] == "append"
    assert result["settings"]["seed"] == 5
    assert 0 < result["test"]["auc"] < 1


@pytest.mark.usefixtures("synthetic_is_the_data")
def test_the_command_writes_nothing_that_is_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = {file: file.read_bytes() for file in WEIGHTS.iterdir()}
    assert cli.main(ARGUMENTS) == 0
    assert {file: file.read_bytes() for file in WEIGHTS.iterdir()} == before
    (file,) = (file for file in tmp_path.rglob("*") if file.is_file())
    assert file.relative_to(tmp_path) == WEIGHTS_OUT / "append-dropout0-heads1-layers1-width8.safetensors"
    assert load_ranker(str(file)).name == "append"


def test_the_command_says_how_to_do_it_again() -> None:
    settings = TrainSettings(seed=1, epochs=2, learning_rate=0.5, weight_decay=0.25, threads=2)
    command = train_command("append", None, {}, settings)
    assert command == "cleave train append --seed 1 --epochs 2 --learning-rate 0.5 --weight-decay 0.25 --threads 2"
    options = vars(cli.parser().parse_args(command.split()[1:]))
    assert {name: options[name] for name in OPTIONS} == {name: getattr(settings, name) for name in OPTIONS}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transformer"], "model 'transformer': not in the zoo"),
        (["append", "--size", "depth=3"], "--size: append has no size 'depth'; its sizes are num_items, max_events"),
        (["append", "--size", "layers=1.5"], "--size: append: layers: expected a whole number, got 1.5"),
        (["append", "--size", "layers"], "--size: expected name=number pairs like layers=3,width=128, got 'layers'"),
        (["append", "--size", "width=30,heads=4"], "width 30 is not a multiple of heads 4"),
        (["append", "--epochs", "0"], "training: epochs: expected at least 1, got 0"),
        (["append", "--seed", "-1"], "training: seed: expected at least 0, got -1"),
        (["append", "--learning-rate", "0"], "training: learning_rate: expected a number above 0, got 0.0"),
        (["append", "--learning-rate", "nan"], "training: learning_rate: expected a number above 0, got nan"),
        (["append", "--threads", "0"], "training: threads: expected at least 1, got 0"),
        (["append", "--weight-decay", "-1"], "training: weight_decay: expected at least 0, got -1.0"),
        (
            ["append", "--out", "weights"],
            "training: weights: expected a name by which `cleave build` knows weights",
        ),
        (["append", "--size", "num_items=7"], "num_items: expected 80 as the data has, got 7"),
    ],
)
@pytest.mark.usefixtures("synthetic_is_the_data")
def test_wrong_use(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("synthetic_is_the_data")
def test_a_wrong_out_is_refused_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for out, message in ((tmp_path, "expected a file"), (tmp_path / "file" / "weights", "expected a folder")):
        assert cli.main([*ARGUMENTS, "--out", str(out)]) == 2
        printed = capsys.readouterr()
        assert f"training: {out}: {message}" in printed.err
        assert "epoch" not in printed.err


def test_a_loss_that_is_no_number(synthetic: MovieLens) -> None:
    settings = dataclasses.replace(SETTINGS, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf), expected a finite number; give a smaller"):
        train.train("append", synthetic, SMALL, settings, show_progress=False)


def test_too_few_ratings_for_a_validation_part() -> None:
    tiny = synthetic_movielens(num_users=3, num_items=80, seed=1)
    short = dataclasses.replace(tiny, starts=np.arange(4) * 5)
    with pytest.raises(MetricsError, match="expected labels of both kinds, got 0 labels"):
        train.train("append", short, SMALL, SETTINGS, show_progress=False)
