"""The subcommand that writes a model repository, its engines with it, or only says what would come of them."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cleave.builders.contract.location import parse_sizes, repository_folder
from cleave.builders.errors import BuilderError
from cleave.options import add_data, add_model, add_other_sizes

if TYPE_CHECKING:
    from cleave.builders.cut.cut import Cut
    from cleave.builders.pipeline import Build
    from cleave.builders.targets.tensorrt.build import BuiltPlan, PlanBuilder

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

MIB = 1 << 20

ONNX, TENSORRT, TENSORRT_CHECK = "onnx", "tensorrt", "tensorrt-check"
TARGETS = {
    ONNX: "the repository (default)",
    TENSORRT: "with an engine of each part for the GPU of this machine",
    TENSORRT_CHECK: "compile every part for GPUs that need not be here, print a table and write nothing",
}
OPTIONS = {
    "architectures": (TENSORRT_CHECK,),
    "layers": (TENSORRT, TENSORRT_CHECK),
    "timing_cache": (TENSORRT,),
    "memory_limit": (TENSORRT,),
    "version_compatible": (TENSORRT,),
    "hardware_compatible": (TENSORRT,),
}
"""Options that only some targets have."""
OF_A_REPOSITORY = dict.fromkeys(("out", "data", "check", "tolerance"), (ONNX, TENSORRT))
"""Options of targets that have to do with a model repository."""
OF_A_BUILD = (*OPTIONS, "data", "tolerance")
"""Options that mean nothing where configs are only compared."""


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
        help="the model repository (default: model_repository; with --size, a folder of its own under .cleave)",
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
        help="float32, float16 or bfloat16: what weights and products are in; ONNX Runtime has no bfloat16 on a CPU "
        "(default: float32)",
    )
    parser.add_argument(
        "--summary-dtype",
        metavar="DTYPE",
        help="float32, float16 or int8: the type the summary is kept in (default: float32, or float16 with a "
        "--precision of 16 bits)",
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
    _add_target(parser)
    parser.set_defaults(run=_build)


def _add_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("TensorRT")
    group.add_argument(
        "--target",
        choices=TARGETS,
        default=ONNX,
        help="; ".join(f"{target}: {what}" for target, what in TARGETS.items()),
    )
    group.add_argument("--architectures", metavar="SM,...", help="of tensorrt-check (default: SM80,SM86,SM89,SM120)")
    group.add_argument("--layers", type=Path, metavar="DIR", help="write the layers of every engine there")
    group.add_argument(
        "--timing-cache", type=Path, metavar="FILE", help="read and write measured kernels: the next build is quicker"
    )
    group.add_argument(
        "--memory-limit", type=int, metavar="MIB", help="of the workspace of kernels (default: the GPU's memory)"
    )
    group.add_argument(
        "--version-compatible", action="store_true", help="engines that later versions of TensorRT run, too"
    )
    group.add_argument(
        "--hardware-compatible", action="store_true", help="engines that all GPUs from Ampere on run, slower"
    )


def _build(options: argparse.Namespace) -> int:
    from cleave.builders import pipeline as build  # noqa: PLC0415 - torch is slow to import
    from cleave.builders import repository  # noqa: PLC0415 - torch is slow to import

    _check_options(options)
    sizes = parse_sizes(options.size)
    request = build.Request(
        options.name, sizes, options.catalogue, options.summary_dtype, options.precision, options.tolerance
    )
    if options.target == TENSORRT_CHECK:
        return _check_engines(options, build.cut_as_configured(request))
    folder = options.out or repository_folder(options.name, sizes)
    if options.check:
        cut = build.cut_as_configured(request)
        command = _build_command(options)
        return _check(cut.ranker.name, repository.config_differences(cut, folder, command), folder, command)
    builder = _plan_builder(options) if options.target == TENSORRT else None
    built = build.build(request, options.data, lambda line: print(line, file=sys.stderr))
    plans = {} if builder is None else _plans(builder, built.cut)
    fingerprint = repository.write_repository(built.cut, folder, _build_command(options), plans, options.tolerance)
    print("\n".join([*_build_lines(built), *_plan_lines(plans)]))
    models = ", ".join(repository.models_of(built.cut))
    print(f"built {built.cut.ranker.name} {fingerprint[:12]} in {folder}: {models}")
    return 0


def _check_options(options: argparse.Namespace) -> None:
    for option in OF_A_BUILD:
        if options.check and _is_given(options, option):
            raise BuilderError(
                f"--{option.replace('_', '-')}: expected no --check with it, which builds nothing; leave one out"
            )
    for option, targets in {**OPTIONS, **OF_A_REPOSITORY}.items():
        if _is_given(options, option) and options.target not in targets:
            expected = " or ".join(f"--target {target}" for target in targets)
            raise BuilderError(
                f"--{option.replace('_', '-')}: expected {expected} with it, got --target {options.target}; leave it "
                "out, or choose that target"
            )
    if options.memory_limit is not None and options.memory_limit < 1:
        raise BuilderError(f"--memory-limit: expected at least 1 MiB, got {options.memory_limit}; leave it out for all")


def _is_given(options: argparse.Namespace, option: str) -> bool:
    return getattr(options, option) not in (None, False)


def _plan_builder(options: argparse.Namespace) -> PlanBuilder:
    from cleave.builders.targets.tensorrt.build import PlanBuilder  # noqa: PLC0415
    from cleave.builders.targets.tensorrt.engine import EngineOptions  # noqa: PLC0415 - onnx is slow to import

    engine_options = EngineOptions(
        memory_limit_bytes=None if options.memory_limit is None else options.memory_limit * MIB,
        timing_cache=options.timing_cache,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
    )
    return PlanBuilder(engine_options, options.layers)


def _plans(builder: PlanBuilder, cut: Cut) -> dict[str, BuiltPlan]:
    from tqdm import tqdm  # noqa: PLC0415 - the extra `commands` has it

    from cleave.builders.targets.tensorrt.forms import tensorrt_parts  # noqa: PLC0415 - onnx is slow to import

    parts = tensorrt_parts(cut)
    print(f"{cut.ranker.name}: building {len(parts)} engines", file=sys.stderr)
    plans = dict(tqdm(builder.plans(parts), total=len(parts), unit="engine", disable=not sys.stderr.isatty()))
    for model, plan in plans.items():
        for refusal in plan.refusals:
            print(
                f"{model}: built with attention spelled out, as TensorRT refuses the other: {refusal}", file=sys.stderr
            )
    return plans


def _check_engines(options: argparse.Namespace, cut: Cut) -> int:
    from tqdm import tqdm  # noqa: PLC0415 - the extra `commands` has it

    from cleave.builders.targets.tensorrt.check import check_engines, table  # noqa: PLC0415
    from cleave.builders.targets.tensorrt.engine import ARCHITECTURES  # noqa: PLC0415 - onnx is slow to import
    from cleave.builders.targets.tensorrt.forms import tensorrt_parts  # noqa: PLC0415

    architectures = tuple(filter(None, (options.architectures or "").split(","))) or ARCHITECTURES
    parts = tensorrt_parts(cut)
    total = len(parts) * len(architectures)
    checks = list(
        tqdm(
            check_engines(parts, options.precision, architectures, options.layers),
            total=total,
            unit="engine",
            disable=not sys.stderr.isatty(),
        )
    )
    print(table(checks))
    refusals = [check.refusal for check in checks if check.refusal]
    print("\n".join(dict.fromkeys(refusals)), file=sys.stderr, end="\n" * bool(refusals))
    return int(bool(refusals))


def _build_lines(built: Build) -> list[str]:
    from cleave.builders.formatting import byte_quantity  # noqa: PLC0415

    lines = []
    for case in built.cases:
        at = ", ".join(f"{axis} {size}" for axis, size in case.sizes.items())
        lines.append(f"parity: batch {case.batch}, {at}: largest difference {case.difference:.2g}")
    if built.num_table_items is not None:
        lines.append(f"item table: {built.num_table_items:,} items, scores as without it")
    if narrowed := built.narrowed:
        wide, kept = (byte_quantity(count) for count in narrowed.summary_bytes)
        lines.append(
            f"summary: {kept} a user instead of {wide}; largest score difference {narrowed.score_difference:.2g}"
        )
        if narrowed.test_auc:
            before, after = narrowed.test_auc
            lines.append(f"test AUC: {after:.5f} instead of {before:.5f}, a change of {after - before:+.5f}")
    return lines


def _plan_lines(plans: dict[str, BuiltPlan]) -> list[str]:
    from cleave.builders.formatting import byte_quantity  # noqa: PLC0415

    lines = []
    for model, plan in plans.items():
        needs, record = plan.record.activation_bytes, plan.record
        lines.append(
            f"engine: {model}: {byte_quantity(len(plan.engine))}, {len(record.profiles)} profiles, "
            f"{record.fused_attentions} of {record.attentions} attentions fused, "
            f"{'unknown memory' if needs is None else byte_quantity(needs)} to run, "
            f"TensorRT {record.tensorrt}, compute capability {record.compute_capability}"
        )
    return lines


def _check(name: str, differences: str, folder: Path, build_command: str) -> int:
    if not differences:
        print(f"{name}: the configs in {folder} are those of this build")
        return 0
    print(differences)
    print(f"{name}: the configs in {folder} differ; run `{build_command}` and commit them", file=sys.stderr)
    return 1


def _build_command(options: argparse.Namespace) -> str:
    words = ["cleave", "build", options.name]
    words += ["--size", options.size] * bool(options.size)
    words += ["--catalogue", str(options.catalogue)] * bool(options.catalogue)
    words += ["--precision", options.precision] * (options.precision != "float32")
    words += ["--summary-dtype", options.summary_dtype] * bool(options.summary_dtype)
    words += ["--tolerance", str(options.tolerance)] * (options.tolerance is not None)
    words += ["--target", options.target] * (options.target != ONNX)
    for option in OPTIONS:
        value = getattr(options, option)
        words += [f"--{option.replace('_', '-')}", *[str(value)] * (value is not True)] * (value not in (None, False))
    words += ["--out", str(options.out)] * bool(options.out)
    return shlex.join(words)
