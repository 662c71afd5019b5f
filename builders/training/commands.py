"""The subcommands that train the zoo's models, tune them and compare how accurate they are."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cleave.builders.contract.location import WEIGHTS_SUFFIX, build_name, parse_sizes
from cleave.builders.errors import BuilderError
from cleave.options import add_data, add_json, add_other_sizes

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

WEIGHTS_OUT = Path(".cleave", "weights")
"""The folder that `train` writes to where --out names no file; the zoo's own weights, which are committed, stay."""

TRIALS_OUT = Path(".cleave", "tuning.json")
"""The file that `tune` writes where --out names none."""


def add_commands(commands: Subparsers) -> None:
    """Add the subcommands; each sets `run`, a function from the parsed options to an exit code."""
    _add_train(commands)
    _add_tune(commands)
    _add_evaluate(commands)
    _add_catalogue(commands)


def _add_train(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "train",
        help="train a zoo model on MovieLens",
        description="Train a zoo model on MovieLens, on the processor; report its accuracy on the last tenth of each "
        "user's ratings, and write its weights.",
    )
    parser.add_argument("name", metavar="NAME", help="a zoo model")
    add_data(parser)
    add_other_sizes(parser, "layers=3,dropout=0.2")
    parser.add_argument("--seed", type=int, metavar="N", help="of weights, order and dropout (default: 0)")
    parser.add_argument("--epochs", type=int, metavar="N", help="at most this many")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="its peak (default: as `cleave tune` chose)")
    parser.add_argument("--weight-decay", type=float, metavar="X", help="AdamW's")
    parser.add_argument("--threads", type=int, metavar="N", help="of the processor (default: 1)")
    parser.add_argument(
        "--out", type=Path, metavar=f"FILE{WEIGHTS_SUFFIX}", help=f"the weights (default: a file in {WEIGHTS_OUT})"
    )
    add_json(parser, "the accuracy and where the weights are")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from cleave.builders.load import zoo_sizes  # noqa: PLC0415 - torch is slow to import
    from cleave.builders.training import data, train, train_output, tune  # noqa: PLC0415
    from cleave.builders.zoo import ZOO  # noqa: PLC0415

    tuned_sizes, learning_rate = tune.tuned(options.name)
    given = {name: getattr(options, name) for name in train_output.OPTIONS if getattr(options, name) is not None}
    settings = dataclasses.replace(train.TrainSettings(learning_rate=learning_rate), **given)
    sizes = {**tuned_sizes, **parse_sizes(options.size)}
    zoo_sizes(options.name, sizes)  # refuses a wrong name before the data is downloaded
    file = options.out or WEIGHTS_OUT / f"{build_name(options.name, parse_sizes(options.size))}{WEIGHTS_SUFFIX}"
    train_output.check_file(file)
    movielens = data.load(options.data)
    trained = train.train(options.name, movielens, sizes, settings)
    train_output.save(trained, file, train_output.train_command(options.name, options.data, sizes, settings))
    report = train_output.report_dict(trained, file)
    print(json.dumps(report, indent=2) if options.json else train_output.report_text(trained, file))
    if options.name in ZOO:
        build, serve, rank = train_output.next_commands(trained, file, options.data, int(movielens.user_ids[0]))
        print(f"next: {build}\n      {serve}\nand in another terminal:\n      {rank}", file=sys.stderr)
    return 0


def _add_tune(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "tune",
        help="choose learning rate, dropout and width of zoo models",
        description="Train zoo models with several learning rates, dropouts and widths, and keep every trial's result "
        "on the validation part of MovieLens. An interrupted search goes on where it was.",
    )
    _add_trainings(parser)
    parser.add_argument(
        "--out", type=Path, default=TRIALS_OUT, metavar="FILE", help="the trials (default: %(default)s)"
    )
    parser.set_defaults(run=_tune)


def _add_trainings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", default=(), metavar="NAME", help="zoo models (default: all)")
    add_data(parser)
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trainings at once, one core each (default: 1)"
    )


def _tune(options: argparse.Namespace) -> int:
    from cleave.builders.load import zoo_names  # noqa: PLC0415 - torch is slow to import
    from cleave.builders.training import tune  # noqa: PLC0415

    models = zoo_names(options.models)
    with _training_processes(options.jobs) as pool:
        tune.tune(models, options.data, options.out, pool, lambda line: print(line, file=sys.stderr))
    for model in models:
        sizes, learning_rate = tune.tuned(model, options.out)
        chosen = {"learning_rate": learning_rate, **sizes}
        print(f"{model}: " + ", ".join(f"{name} {value:g}" for name, value in chosen.items()))
        size = ",".join(f"{name}={value:g}" for name, value in sizes.items())
        words = ["train", model, "--size", size, "--learning-rate", f"{learning_rate:g}"]
        words += ["--data", str(options.data)] * bool(options.data)
        print(f"next: {shlex.join(['cleave', *words])}", file=sys.stderr)
    return 0


def _training_processes(jobs: int) -> ProcessPoolExecutor:
    """Processes that train; they are started anew, so that none inherits a lock from a thread of this one."""
    import multiprocessing  # noqa: PLC0415 - only trainings need processes
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

    if jobs < 1:
        raise BuilderError(f"--jobs: expected at least 1, got {jobs}; give the number of processors")
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))


def _add_evaluate(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="train every zoo model with several seeds and compare them",
        description="Train zoo models on MovieLens with several seeds and the settings that `tune` chose; write a "
        "table of accuracy and cost and a picture of both. An interrupted evaluation goes on where it was.",
    )
    _add_trainings(parser)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each model (default: 3)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the page, the picture and the runs")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="keep the weights of seed 0 in this folder")
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from cleave.builders.load import zoo_names  # noqa: PLC0415 - torch is slow to import
    from cleave.builders.training import accuracy, accuracy_page, tune  # noqa: PLC0415

    models = zoo_names(options.models)
    with _training_processes(options.jobs) as pool:
        found = accuracy.evaluate_models(
            models,
            options.seeds,
            options.data,
            options.out / "accuracy.json",
            options.weights,
            pool,
            lambda line: print(line, file=sys.stderr),
        )
    accuracy_page.write_page(found, tune.read_trials(), options.out, _evaluate_command(options))
    print(accuracy_page.table(found))
    print(f"wrote {options.out / accuracy_page.PAGE}")
    return 0


def _evaluate_command(options: argparse.Namespace) -> str:
    words = ["cleave", "evaluate", "--seeds", str(options.seeds), "--out", str(options.out)]
    words += ["--models", *options.models] * bool(options.models)
    words += ["--data", options.data.name] if options.data else []
    return shlex.join(words)


def _add_catalogue(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "catalogue",
        help="write the films of MovieLens as a catalogue",
        description="Write the films of MovieLens as parquet, as `cleave build --catalogue` reads it.",
    )
    parser.add_argument("out", type=Path, metavar="FILE", help="the parquet file")
    add_data(parser)
    parser.set_defaults(run=_catalogue)


def _catalogue(options: argparse.Namespace) -> int:
    from cleave.builders.cut.item_catalogue import write_catalogue  # noqa: PLC0415 - polars is slow to import
    from cleave.builders.training import data  # noqa: PLC0415

    movielens = data.load(options.data)
    write_catalogue(options.out, movielens.candidate_inputs())
    print(f"wrote {movielens.num_items:,} films of {movielens.name} to {options.out}")
    return 0
