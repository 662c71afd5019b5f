"""Trains every zoo model with several seeds on the same data: how accurate each is, and what it costs to serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cleave.builders.cost.flops import Flops
from cleave.builders.cut.cut import cut_ranker
from cleave.builders.errors import BuilderError
from cleave.builders.export.id_ranges import with_id_ranges
from cleave.builders.export.torch_export import onnx_from_ranker
from cleave.builders.files import read_records, write_records
from cleave.builders.load import random_ranker, zoo_sizes
from cleave.builders.onnx_graph.probe import probe
from cleave.builders.predict.arms import TRITON_ARMS, flops_of_arm, flops_of_arms
from cleave.builders.spec import Ranker
from cleave.builders.training import data
from cleave.builders.training.train import TrainSettings, train
from cleave.builders.training.train_output import save, train_command
from cleave.builders.training.tune import tuned
from cleave.builders.zoo import BASELINES

WEIGHTS_SEED = 0
"""The seed whose weights are kept for serving."""


@dataclass(frozen=True)
class Run:
    """One training and what the test part says of it."""

    model: str
    seed: int
    command: str
    """The command that does the same again. A run of another command is not taken for this one."""
    parameters: int
    best_epoch: int
    validation_auc: float
    test_auc: float
    test_log_loss: float
    test_ne: float
    seconds: float


@dataclass(frozen=True)
class Costs:
    """What serving one request takes, as `cleave inspect` counts it."""

    flops: dict[str, int]
    """The FLOPs of each arm. A baseline, which is not cut, has only the arms that run the whole model."""
    summary_bytes: int | None
    """The bytes kept for one user; None where nothing is kept."""


@dataclass(frozen=True)
class Row:
    """One model of the table."""

    model: str
    sizes: dict[str, int | float]
    learning_rate: float
    runs: tuple[Run, ...]
    costs: Costs

    def mean(self, field: str) -> float:
        """The mean over the seeds."""
        return float(np.mean([getattr(run, field) for run in self.runs]))

    def deviation(self, field: str) -> float:
        """The standard deviation over the seeds, of a sample; 0 of a single seed."""
        values = [getattr(run, field) for run in self.runs]
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Accuracy:
    """The table, and the data and the request it speaks of."""

    data: str
    request: dict[str, int]
    """The sizes that FLOPs and bytes are counted at."""
    rows: tuple[Row, ...]


def evaluate_models(
    models: Sequence[str],
    seeds: int,
    data_path: Path | None,
    runs_file: Path,
    weights: Path | None,
    pool: Executor,
    report: Callable[[str], None],
) -> Accuracy:
    """Train each model with the seeds 0 to `seeds - 1`, several at once, with the settings that `cleave tune` chose.

    Args:
        models: names of zoo models.
        data_path: as of `data.load`.
        runs_file: is written after every run, so that an interrupted evaluation goes on where it was.
        weights: a folder to keep the weights of seed 0 in, as NAME.safetensors; they are then always trained anew.
        pool: runs the trainings.
        report: takes a line for every run.

    Raises:
        BuilderError: the file of runs was written by something else, or a training failed.
    """
    if seeds < 1:
        raise BuilderError(f"--seeds: expected at least 1, got {seeds}; 3 show how much chance there is")
    movielens = data.load(data_path)
    wanted = {(model, seed): _settings(model, seed, data_path) for model in models for seed in range(seeds)}
    known = {run.command: run for run in read_runs(runs_file)}
    runs = {key: known[command] for key, (_, _, command) in wanted.items() if command in known}
    if weights is not None:
        weights.mkdir(parents=True, exist_ok=True)
        runs = {key: run for key, run in runs.items() if key[1] != WEIGHTS_SEED}
    begun = {}
    for (model, seed), (sizes, settings, command) in wanted.items():
        if (model, seed) not in runs:
            file = weights / f"{model}.safetensors" if weights is not None and seed == WEIGHTS_SEED else None
            begun[pool.submit(_run, model, data_path, sizes, settings, command, file)] = (model, seed)
    for future in as_completed(begun):
        run = runs[begun[future]] = future.result()
        known[run.command] = run
        write_records(runs_file, known.values())
        report(f"{run.model}, seed {run.seed}: test AUC {run.test_auc:.4f}, NE {run.test_ne:.4f}, {run.seconds:.0f} s")
    request = _request(models, movielens.num_items)
    rows = []
    for model in models:
        sizes, settings, _ = wanted[model, 0]
        costs = costs_of(model, {**sizes, "num_items": movielens.num_items}, request)
        own = tuple(runs[model, seed] for seed in range(seeds))
        rows.append(Row(model, zoo_sizes(model, sizes), settings.learning_rate, own, costs))
    return Accuracy(movielens.name, request, tuple(rows))


def read_runs(file: Path) -> list[Run]:
    """The runs in the order they ended; none where there is no file.

    Raises:
        BuilderError: the file was written by something else.
    """
    return read_records(file, Run, "runs of `cleave evaluate`", "delete it, or give another --out")


def _settings(model: str, seed: int, data_path: Path | None) -> tuple[dict[str, int | float], TrainSettings, str]:
    sizes, chosen = tuned(model)
    settings = TrainSettings(seed=seed, learning_rate=chosen)
    return sizes, settings, train_command(model, data_path, sizes, settings)


def _run(
    model: str,
    data_path: Path | None,
    sizes: dict[str, int | float],
    settings: TrainSettings,
    command: str,
    file: Path | None,
) -> Run:
    trained = train(model, data.load(data_path), sizes, settings, show_progress=False)
    if file is not None:
        save(trained, file, command)
    test = trained.test
    return Run(
        model=model,
        seed=settings.seed,
        command=command,
        parameters=trained.num_parameters,
        best_epoch=trained.best_epoch,
        validation_auc=trained.validation.auc,
        test_auc=test.auc,
        test_log_loss=test.log_loss,
        test_ne=test.normalized_entropy,
        seconds=round(trained.seconds, 1),
    )


def _request(models: Sequence[str], num_items: int) -> dict[str, int]:
    """The sizes of one request for all models: the shortest of their usual histories, the most usual candidates.

    A model whose candidate axis is shorter takes several calls, whose FLOPs add up to the same.
    """
    rankers = [random_ranker(model, {"num_items": num_items}) for model in models]
    usual = [ranker.sizes("opt") for ranker in rankers]
    names = [axis.name for axis in rankers[0].axes]
    candidates = rankers[0].candidate_axis.name
    return {name: (max if name == candidates else min)(sizes[name] for sizes in usual) for name in names}


def costs_of(model: str, sizes: dict[str, int | float], request: dict[str, int]) -> Costs:
    """FLOPs of each arm and bytes of the summary, of one request; weights do not matter for either."""
    ranker = random_ranker(model, sizes)
    if model in BASELINES:
        return Costs(_whole_flops(ranker, request), None)
    cut = cut_ranker(ranker)
    return Costs(flops_of_arms(cut, request), cut.summary_bytes(request))


def _whole_flops(ranker: Ranker, request: dict[str, int]) -> dict[str, int]:
    model = onnx_from_ranker(ranker)
    flops = Flops.of(model.graph.node, probe(model, with_id_ranges(ranker, model)))
    axis = ranker.candidate_axis.name
    whole = {name: arm for name, arm in TRITON_ARMS.items() if arm.parts == ("whole",)}
    return {name: flops_of_arm(arm, {"whole": flops}, request, axis) for name, arm in whole.items()}
