"""The subcommand that writes a model repository, its engines with it, or only says what would come of them."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cleave.builders.contract.dtypes import SUMMARY_DTYPES, TOLERANCES
from cleave.builders.contract.location import DEFAULT_FOLDER, SIZED_FOLDER, parse_sizes, repository_folder
from cleave.builders.errors import BuilderError
from cleave.builders.formatting import choice
from cleave.builders.names import model_names
from cleave.builders.targets.registry import CHECKS, DEFAULT, TARGETS
from cleave.builders.targets.target import CompileCheck, Target
from cleave.options import add_data, add_json, add_model, add_other_sizes

if TYPE_CHECKING:
    from cleave.builders.cut.cut import Cut
    from cleave.builders.pipeline import BuildOptions
    from cleave.builders.targets.target import Built, CheckReport, Option

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

OF_A_REPOSITORY = ("out", "data", "check", "tolerance", "examples")
"""Options that mean nothing where no repository is written."""
OF_A_BUILD = ("data", "tolerance", "examples")
"""Options that mean nothing where configs are only compared, nor do those of targets."""


def add_build(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "build",
        help="write the Triton model repository of a model",
        description="Export a model, cut it, prove the cut on random inputs, and write configs, artifacts, manifests.",
    )
    add_model(parser)
    add_other_sizes(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="the model repository (default: model_repository; for other sizes or weights than the zoo's, a folder of "
        f"its own in {SIZED_FOLDER})",
    )
    parser.add_argument(
        "--catalogue",
        type=Path,
        metavar="FILE",
        help="parquet with a column for each candidate input: bake the item tower's results into the scorer",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="DTYPE",
        help=f"{choice(TOLERANCES)}: what weights and products are in; ONNX Runtime has no bfloat16 on a CPU "
        "(default: float32)",
    )
    parser.add_argument(
        "--summary-dtype",
        metavar="DTYPE",
        help=f"{choice(SUMMARY_DTYPES)}: the type the summary is kept in (default: float32, or float16 with a "
        "--precision of 16 bits)",
    )
    parser.add_argument(
        "--examples",
        type=Path,
        metavar="FILE",
        help="recorded requests to prove the build on as well: a line of JSON each, with the arguments of the client's "
        'call and the names of the tensors: {"history": {NAME: VALUES}, "request": {NAME: VALUE}, "candidates": '
        "{NAME: VALUES}}, without padding",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="SHARE",
        help="how far scores may be from those of torch, as a share of their spread (default: 1e-5, and up to 3e-4 "
        "where torch's own rounding is as large against float64)",
    )
    add_data(parser, "for the test AUC of a build of fewer bits", "MovieLens-100k, if a command has fetched it")
    parser.add_argument(
        "--check", action="store_true", help="compare the configs of the repository with this build and write nothing"
    )
    add_json(
        parser,
        "what was proven and what was written; with --check, whether the configs are the `same`, and `differences`; "
        "with a target that writes nothing, `engines` and `refusals`",
    )
    _add_target(parser)
    parser.set_defaults(run=_build)


def _add_target(parser: argparse.ArgumentParser) -> None:
    group, kinds = parser.add_argument_group("target"), _kinds()
    group.add_argument(
        "--target",
        choices=kinds,
        default=DEFAULT.name,
        help="; ".join(f"{name}: {kind.help}" for name, kind in kinds.items()) + f" (default: {DEFAULT.name})",
    )
    for option in _target_options():
        group.add_argument(option.flag, **option.keywords)


def _kinds() -> dict[str, Target | CompileCheck]:
    """What `--target` takes."""
    return {**TARGETS, **CHECKS}


def _target_options() -> dict[Option, list[str]]:
    """The options that not every target has, with the names of those that have them."""
    takers: dict[Option, list[str]] = {}
    for name, kind in _kinds().items():
        for option in kind.options:
            takers.setdefault(option, []).append(name)
    return takers


def _build(options: argparse.Namespace) -> int:
    from cleave.builders import pipeline  # noqa: PLC0415 - torch is slow to import

    kind = _kinds()[options.target]
    _check_options(options, kind)
    sizes = parse_sizes(options.size)
    build_options = pipeline.BuildOptions(
        options.name,
        sizes,
        options.catalogue,
        options.summary_dtype,
        options.precision,
        options.tolerance,
        options.examples,
    )
    given = {option.key: getattr(options, option.key) for option in kind.options}
    if isinstance(kind, CompileCheck):
        cut = pipeline.cut_as_configured(build_options)
        return _report_check(kind.check(cut, options.precision, given), options.json)
    folder = options.out or repository_folder(options.name, sizes)
    if options.check:
        return _compare(options, build_options, folder)
    return _write(options, build_options, folder, kind.prepare(given) if kind.prepare else None)


def _check_options(options: argparse.Namespace, kind: Target | CompileCheck) -> None:
    for option in (*OF_A_BUILD, *(option.key for option in _target_options())):
        if options.check and _is_given(options, option):
            raise BuilderError(f"{_flag(option)}: expected no --check with it, which builds nothing; leave one out")
    takers = {option.key: names for option, names in _target_options().items()}
    for option, names in {**takers, **{option: list(TARGETS) for option in OF_A_REPOSITORY}}.items():
        if _is_given(options, option) and kind.name not in names:
            expected = " or ".join(f"--target {name}" for name in names)
            raise BuilderError(
                f"{_flag(option)}: expected {expected} with it, got --target {kind.name}; leave it out, or choose that "
                "target"
            )


def _is_given(options: argparse.Namespace, option: str) -> bool:
    return getattr(options, option) not in (None, False)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _write(
    options: argparse.Namespace,
    build_options: BuildOptions,
    folder: Path,
    compile_engines: Callable[[Cut], Built] | None,
) -> int:
    from cleave.builders import pipeline, repository  # noqa: PLC0415 - torch is slow to import
    from cleave.builders.reports.build import build_report  # noqa: PLC0415 - torch is slow to import
    from cleave.builders.training.build_auc import aucs_of_build  # noqa: PLC0415 - torch is slow to import

    evaluate = partial(aucs_of_build, data=options.data, progress=_progress)
    proven = pipeline.build(build_options, evaluate, _progress)
    made = None if compile_engines is None else compile_engines(proven.cut)
    fingerprint = repository.write_repository(
        proven.cut, folder, _build_command(options), made, options.tolerance, proven.weights, proven.proof
    )
    engines = {} if made is None else made.engines
    report = build_report(proven, engines, fingerprint, folder, model_names(proven.cut.ranker.name))
    print(json.dumps(report.to_dict(), indent=2) if options.json else report)
    _progress(f"next: {_serve_command(report.ranker, folder, TARGETS[options.target].config_name)}")
    return 0


def _serve_command(ranker: str, folder: Path, config_name: str | None) -> str:
    words = ["cleave", "serve", ranker]
    words += ["--repository", str(folder)] * (folder != DEFAULT_FOLDER)
    words += ["--config-name", config_name] if config_name else []
    return shlex.join(words)


def _progress(line: str) -> None:
    print(line, file=sys.stderr)


def _compare(options: argparse.Namespace, build_options: BuildOptions, folder: Path) -> int:
    """1 where the configs of a folder are not those of this build."""
    from cleave.builders import pipeline, repository  # noqa: PLC0415 - torch is slow to import

    cut, command = pipeline.cut_as_configured(build_options), _build_command(options)
    name, differences = cut.ranker.name, repository.config_differences(cut, folder, command)
    if options.json:
        result = {"ranker": name, "repository": str(folder), "same": not differences, "differences": differences}
        print(json.dumps(result, indent=2))
    else:
        print(differences or f"{name}: the configs in {folder} are those of this build")
    if differences:
        print(f"{name}: the configs in {folder} differ; run `{command}` and commit them", file=sys.stderr)
    return int(bool(differences))


def _report_check(report: CheckReport, as_json: bool) -> int:
    """1 where a part cannot be compiled."""
    print(json.dumps({"engines": report.rows, "refusals": report.refusals}, indent=2) if as_json else report.table)
    for refusal in report.refusals:
        print(refusal, file=sys.stderr)
    return int(bool(report.refusals))


def _build_command(options: argparse.Namespace) -> str:
    words = ["cleave", "build", options.name]
    words += ["--size", options.size] * bool(options.size)
    words += ["--catalogue", str(options.catalogue)] * bool(options.catalogue)
    words += ["--precision", options.precision] * (options.precision != "float32")
    words += ["--summary-dtype", options.summary_dtype] * bool(options.summary_dtype)
    words += ["--examples", str(options.examples)] * bool(options.examples)
    words += ["--tolerance", str(options.tolerance)] * (options.tolerance is not None)
    words += ["--target", options.target] * (options.target != DEFAULT.name)
    for option in _target_options():
        value = getattr(options, option.key)
        words += [option.flag, *[str(value)] * (value is not True)] * (value not in (None, False))
    words += ["--out", str(options.out)] * bool(options.out)
    return shlex.join(words)
