"""Chooses a zoo model's learning rate, dropout and width by the validation part; every model gets the same trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from cleave.builders.files import read_records, write_records
from cleave.builders.load import zoo_sizes
from cleave.builders.training import data
from cleave.builders.training.train import TrainSettings, fit

TRIALS = Path(__file__).parent.parent / "zoo" / "tuning.json"
"""Every trial of every model, written by `cleave tune`. Training takes the best one of a model as its defaults."""

GRID: dict[str, tuple[float, ...]] = {"learning_rate": (1e-3, 3e-3), "dropout": (0.1, 0.3), "width": (16, 32)}
"""The values that are tried, one line after the other: each line keeps the best values of the lines before it."""


@dataclass(frozen=True)
class TuningTrial:
    """One training with these choices, and what the validation part said; the test part is never looked at."""

    model: str
    learning_rate: float
    dropout: float
    width: int
    validation_auc: float
    validation_ne: float
    best_epoch: int
    seconds: float

    @property
    def sizes(self) -> dict[str, int | float]:
        return {"width": self.width, "dropout": self.dropout}


def read_trials(file: Path = TRIALS) -> list[TuningTrial]:
    """The trials in the order they were made; none where there is no file.

    Raises:
        BuilderError: the file was written by something else.
    """
    return read_records(file, TuningTrial, "trials of `cleave tune`", "delete it and tune anew")


def best_trial(model: str, trials: Sequence[TuningTrial]) -> TuningTrial | None:
    """The trial of a model with the best validation AUC; None without trials."""
    return max(
        (trial for trial in trials if trial.model == model), key=lambda trial: trial.validation_auc, default=None
    )


def tuned(model: str, file: Path = TRIALS) -> tuple[dict[str, int | float], float]:
    """Sizes and learning rate that the trials chose for a model; without trials no sizes and the default rate."""
    trial = best_trial(model, read_trials(file))
    return (trial.sizes, trial.learning_rate) if trial else ({}, TrainSettings().learning_rate)


def tune(
    models: Sequence[str], data_path: Path | None, file: Path, pool: Executor, report: Callable[[str], None]
) -> None:
    """Search the grid for each model, models side by side in the pool; trials that are in the file are not repeated.

    Args:
        models: names of zoo models.
        data_path: as of `data.load`.
        file: is written after every trial, so that an interrupted search goes on where it was.
        pool: runs the trainings; its processes need one processor each.
        report: takes a line for every trial.
    """
    data.load(data_path)  # once, before several processes would download it
    lock = Lock()

    def run(model: str, choices: dict[str, float]) -> TuningTrial:
        with lock:
            known = read_trials(file)
        done = next((trial for trial in known if trial.model == model and _choices(trial) == choices), None)
        if done is None:
            done = pool.submit(_try, model, data_path, choices).result()
            with lock:
                write_records(file, (*read_trials(file), done))
        said = ", ".join(f"{name} {value:g}" for name, value in choices.items())
        report(
            f"{model}: {said}: validation AUC {done.validation_auc:.4f}, epoch {done.best_epoch}, {done.seconds:.0f} s"
        )
        return done

    def search(model: str) -> None:
        sizes = zoo_sizes(model, {})
        choices = {"learning_rate": TrainSettings().learning_rate, "dropout": sizes["dropout"], "width": sizes["width"]}
        for name, values in GRID.items():
            trials = [run(model, {**choices, name: value}) for value in values]
            choices = _choices(max(trials, key=lambda trial: trial.validation_auc))

    with ThreadPoolExecutor(len(models)) as searches:
        list(searches.map(search, models))


def _choices(trial: TuningTrial) -> dict[str, float]:
    return {name: getattr(trial, name) for name in GRID}


def _try(model: str, data_path: Path | None, choices: dict[str, float]) -> TuningTrial:
    began = time.perf_counter()
    sizes: dict[str, int | float] = {"width": int(choices["width"]), "dropout": choices["dropout"]}
    settings = TrainSettings(learning_rate=choices["learning_rate"])
    fitted = fit(model, data.load(data_path), sizes, settings, show_progress=False)
    found = fitted.validation
    return TuningTrial(
        model,
        settings.learning_rate,
        choices["dropout"],
        int(choices["width"]),
        found.auc,
        found.normalized_entropy,
        fitted.best_epoch,
        round(time.perf_counter() - began, 1),
    )
