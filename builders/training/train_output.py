"""Writes what a training leaves behind: the file of weights, the report, and the command that would do it again."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Any

from cleave.builders.contract.location import WEIGHTS_SUFFIX, Sizes, repository_folder
from cleave.builders.training.train import Trained, TrainingError, TrainSettings
from cleave.builders.zoo.trained import TrainedWeights

OPTIONS = ("seed", "epochs", "learning_rate", "weight_decay", "threads")
"""The settings that are options of the command, too."""


def check_file(file: Path) -> None:
    """Make the folder of a file of weights to come, so that no training is lost to a wrong path.

    Raises:
        TrainingError: the path cannot become a file.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"training: {file}: expected a folder to write to, got {error}; choose another") from error
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise TrainingError(f"training: {file}: expected a file that can be written, got none; choose another path")
    if file.suffix != WEIGHTS_SUFFIX:
        raise TrainingError(
            f"training: {file}: expected a name by which `cleave build` knows weights, NAME{WEIGHTS_SUFFIX}; add that"
        )


def save(trained: Trained, file: Path, command: str) -> None:
    """Write the weights, with the command that made them, whole or not at all."""
    weights = TrainedWeights(file, trained.ranker.name, trained.sizes, command)
    metrics = {"validation": dataclasses.asdict(trained.validation), "test": dataclasses.asdict(trained.test)}
    weights.write(trained.ranker.module, metrics)


def next_commands(trained: Trained, file: Path, data: Path | None, user: int) -> list[str]:
    """The commands that build the weights, serve them, and rank with them for a user of the data."""
    model, repository = trained.ranker.name, repository_folder(str(file), {})
    commands = [
        ["build", str(file)],
        ["serve", model, "--repository", str(repository)],
        ["rank", model, "--user", str(user), *(["--data", str(data)] if data else [])],
    ]
    return [shlex.join(["cleave", *words]) for words in commands]


def train_command(name: str, data: Path | None, sizes: Sizes, settings: TrainSettings) -> str:
    """The command that trains the same again. It names all settings, as defaults may change."""
    words = ["cleave", "train", name]
    if data is not None:
        words += ["--data", data.name]
    if sizes:
        words += ["--size", ",".join(f"{key}={size}" for key, size in sorted(sizes.items()))]
    for option in OPTIONS:
        words += [f"--{option.replace('_', '-')}", str(getattr(settings, option))]
    return " ".join(words)


def report_dict(trained: Trained, file: Path) -> dict[str, Any]:
    """The result as JSON."""
    return {
        "name": trained.ranker.name,
        "file": str(file),
        "sizes": trained.sizes,
        "parameters": trained.num_parameters,
        "settings": dataclasses.asdict(trained.settings),
        "best_epoch": trained.best_epoch,
        "seconds": round(trained.seconds, 1),
        "validation": dataclasses.asdict(trained.validation),
        "test": dataclasses.asdict(trained.test),
    }


def report_text(trained: Trained, file: Path) -> str:
    """The result for people."""
    lines = [f"{trained.ranker.name}: {trained.num_parameters} parameters, epoch {trained.best_epoch} is the best"]
    lines += [f"{'part':<12}{'examples':>10}{'AUC':>10}{'log loss':>10}{'NE':>10}"]
    for part, found in (("validation", trained.validation), ("test", trained.test)):
        numbers = (found.auc, found.log_loss, found.normalized_entropy)
        lines += [f"{part:<12}{found.num_examples:>10}" + "".join(f"{number:>10.4f}" for number in numbers)]
    return "\n".join([*lines, f"weights: {file} ({file.stat().st_size} bytes), {trained.seconds:.0f} s"])
