"""What `cleave train` says when it is done, and the command that would do it again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from builders.train import Settings, Trained

OPTIONS = ("seed", "epochs", "learning_rate", "weight_decay", "threads")
"""The settings that are options of the command, too."""


def train_command(name: str, data: Path | None, size: str, settings: Settings) -> str:
    """The command that trains the same again; settings that are the defaults today are spelled out."""
    words = ["cleave", "train", name]
    if data is not None:
        words += ["--data", data.name]
    if size:
        words += ["--size", size]
    for option in OPTIONS:
        words += [f"--{option.replace('_', '-')}", str(getattr(settings, option))]
    return " ".join(words)


def report_dict(trained: Trained, file: Path) -> dict[str, Any]:
    """The result for machines."""
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
