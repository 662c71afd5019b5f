"""The subcommands of `builders`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builders.train import Settings, Trained

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: Subparsers) -> None:
    """Add the subcommands; each sets `run`, a function from the parsed options to an exit code."""
    _add_train(commands)


def _add_train(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "train",
        help="train a zoo model on MovieLens",
        description="Train a zoo model on MovieLens, on the processor; report its accuracy on the last tenth of each "
        "user's ratings, and write its weights.",
    )
    parser.add_argument("name", metavar="NAME", help="a zoo model")
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="a GroupLens folder or ratings file (default: MovieLens-100k)"
    )
    parser.add_argument(
        "--size", default="", metavar="NAME=N,...", help="other sizes than the model's, as in layers=3,dropout=0.2"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of weights, order and dropout (default: 0)")
    parser.add_argument("--epochs", type=int, metavar="N", help="at most this many")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="its peak")
    parser.add_argument("--weight-decay", type=float, metavar="X", help="AdamW's")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the weights (default: where the zoo looks for them)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from builders import data, sources, train  # noqa: PLC0415 - polars and torch are slow to import

    given = {field.name: getattr(options, field.name, None) for field in dataclasses.fields(train.Settings)}
    settings = train.Settings(**{name: value for name, value in given.items() if value is not None})
    sizes = sources.parse_sizes(options.size)
    sources.zoo_sizes(options.name, sizes)  # refuses a wrong name before the data is downloaded
    trained = train.train(options.name, data.load(options.data), sizes, settings)
    file = options.out or sources.WEIGHTS / f"{options.name}.safetensors"
    train.save(trained, file, _train_command(options, settings))
    print(_trained_json(trained, file) if options.json else _trained_table(trained, file))
    return 0


def _train_command(options: argparse.Namespace, settings: Settings) -> str:
    """The command that trains the same again, with settings that are defaults today spelled out."""
    words = ["cleave", "train", options.name]
    if options.data:
        words += ["--data", options.data.name]
    if options.size:
        words += ["--size", options.size]
    for name in ("seed", "epochs", "learning_rate", "weight_decay"):
        words += [f"--{name.replace('_', '-')}", str(getattr(settings, name))]
    return " ".join(words)


def _trained_json(trained: Trained, file: Path) -> str:
    result = {
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
    return json.dumps(result, indent=2)


def _trained_table(trained: Trained, file: Path) -> str:
    lines = [f"{trained.ranker.name}: {trained.num_parameters} parameters, epoch {trained.best_epoch} is the best"]
    lines += [f"{'part':<12}{'examples':>10}{'AUC':>10}{'log loss':>10}{'NE':>10}"]
    for part, found in (("validation", trained.validation), ("test", trained.test)):
        numbers = (found.auc, found.log_loss, found.normalized_entropy)
        lines += [f"{part:<12}{found.num_examples:>10}" + "".join(f"{number:>10.4f}" for number in numbers)]
    return "\n".join([*lines, f"weights: {file} ({file.stat().st_size} bytes), {trained.seconds:.0f} s"])
