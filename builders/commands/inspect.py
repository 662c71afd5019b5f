"""The subcommands that say what a cut saves and where it pays, and build nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cleave.builders.contract.location import parse_sizes
from cleave.builders.errors import BuilderError
from cleave.builders.predict.processors import GPUS, gpu
from cleave.options import add_json, add_model, add_other_sizes

if TYPE_CHECKING:
    from cleave.builders.cut.cut import Cut
    from cleave.builders.spec import Ranker

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

AMORTIZED = ("append", "vista", "lime_mha")
"""One model of each kind of summary: keys and values of the whole history, a fixed number of tokens, a few links."""
DEFAULT_GPU = "H100"


def add_commands(commands: Subparsers) -> None:
    """Add the subcommands; each sets `run`, a function from the parsed options to an exit code."""
    _add_inspect(commands)
    _add_amortization(commands)


def _add_inspect(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "inspect",
        help="say what the cut of a model saves",
        description="Cut a model and report the FLOPs and bytes of its parts, without building anything.",
    )
    add_model(parser)
    add_other_sizes(parser)
    _add_sizes(parser)
    _add_gpu(parser)
    add_json(parser, "FLOPs, bytes and ratios; with --gpu the prediction")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the cut by modules, as .svg, .png or .pdf")
    parser.set_defaults(run=_inspect)


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    """The options that `given_sizes` reads."""
    parser.add_argument("--history", type=int, metavar="N", help="events (default: the axis' opt)")
    parser.add_argument("--candidates", type=int, metavar="M", help="candidates (default: the axis' opt)")


def _add_gpu(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    what = f"predict latency and throughput on a GPU, from its data sheet: {', '.join(GPUS)}"
    parser.add_argument(
        "--gpu", default=default, metavar="GPU", help=f"{what} (default: {default})" if default else what
    )
    usual = GPUS[DEFAULT_GPU]
    known = ", ".join(usual.matrix_flops_per_s)
    parser.add_argument(
        "--precision", metavar="TYPE", help=f"of its matrix products: {known} (default: {usual.precision})"
    )


def _inspect(options: argparse.Namespace) -> int:
    from cleave.builders.cut.cut import cut_ranker  # noqa: PLC0415 - torch is slow to import
    from cleave.builders.load import described_weights, load_ranker  # noqa: PLC0415
    from cleave.builders.reports.inspect import inspect_report  # noqa: PLC0415
    from cleave.builders.reports.roofline import roofline_report  # noqa: PLC0415

    if options.precision and not options.gpu:
        raise BuilderError("--precision: expected --gpu with it, got none; name a GPU")
    processor = gpu(options.gpu) if options.gpu else None
    if processor:
        processor.checked_precision(options.precision)
    model_sizes = parse_sizes(options.size)
    ranker = load_ranker(options.name, model_sizes)
    sizes = ranker.sizes("opt", **given_sizes(ranker, options))
    cut = cut_ranker(ranker)
    if options.picture:
        _draw(cut, sizes, options.picture)
    report = inspect_report(cut, sizes, described_weights(options.name, model_sizes))
    roofline = roofline_report(cut, processor, sizes, options.precision) if processor else None
    if options.json:
        print(json.dumps(report.to_dict() | ({"roofline": roofline.to_dict()} if roofline else {}), indent=2))
    else:
        print("\n\n".join(str(each) for each in (report, roofline) if each))
    return 0


def _draw(cut: Cut, sizes: Mapping[str, int], file: Path) -> None:
    from cleave.builders.reports.cut_picture import CutPicture, write_cut_picture  # noqa: PLC0415 - matplotlib is slow

    try:
        write_cut_picture(CutPicture.of(cut, sizes), file)
    except (OSError, ValueError) as error:
        raise BuilderError(
            f"--picture {file}: expected a file to write, as cut.svg, got: {error}; choose another"
        ) from error
    print(f"wrote {file}", file=sys.stderr)


def _add_amortization(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "amortization",
        help="draw where amortization pays on a GPU",
        description="Predict, from a GPU's data sheet, for which histories and candidates each arm of models pays: a "
        "picture for each question, and a page with the figures of `cleave inspect --gpu`. Nothing is run on a GPU.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="models (default: append, vista, lime_mha)")
    add_other_sizes(parser)
    _add_sizes(parser)
    _add_gpu(parser, DEFAULT_GPU)
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="for the pictures and the page (default: here)"
    )
    parser.set_defaults(run=_amortization)


def _amortization(options: argparse.Namespace) -> int:
    from cleave.builders.cut.cut import cut_ranker  # noqa: PLC0415 - torch is slow to import
    from cleave.builders.load import load_ranker  # noqa: PLC0415
    from cleave.builders.predict.amortization import Amortization  # noqa: PLC0415
    from cleave.builders.reports.amortization_plots import figures, write_figures, write_pictures  # noqa: PLC0415

    processor = gpu(options.gpu)
    processor.checked_precision(options.precision)
    answers = []
    for name in options.names or AMORTIZED:
        ranker = load_ranker(name, parse_sizes(options.size))
        if ranker.history_axis is None:
            raise BuilderError(f"{name}: the user tensors have no axis, expected a history; leave the model out")
        for axis in (ranker.history_axis, ranker.candidate_axis):
            if axis.min == axis.max:
                raise BuilderError(
                    f"{name}: axis {axis.name!r}: expected several sizes to draw, got {axis.max}; widen it"
                )
        sizes = ranker.sizes("opt", **given_sizes(ranker, options))
        answers.append(Amortization(cut_ranker(ranker), processor, sizes, options.precision))
    texts = [figures(answer) for answer in answers]
    print("\n\n".join(texts), end="\n\n")
    files = [*write_pictures(answers, options.out), write_figures(texts, options.out)]
    print("\n".join(f"wrote {file}" for file in files))
    return 0


def given_sizes(ranker: Ranker, options: argparse.Namespace) -> dict[str, int]:
    """`--history` and `--candidates` by the names that this ranker's axes have."""
    sizes = {}
    if options.candidates is not None:
        sizes[ranker.candidate_axis.name] = options.candidates
    if options.history is not None:
        if ranker.history_axis is None:
            raise BuilderError(f"--history: the user tensors of {ranker.name!r} have no axis; leave it out")
        sizes[ranker.history_axis.name] = options.history
    return sizes
