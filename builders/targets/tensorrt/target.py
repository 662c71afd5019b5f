"""TensorRT as targets: engines for the GPU of this machine, and a check of what they would become on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cleave.builders.errors import BuilderError
from cleave.builders.names import TENSORRT_CONFIG
from cleave.builders.targets.target import (
    Built,
    CheckReport,
    CompileCheck,
    EngineRunner,
    Given,
    ModelConfigs,
    Option,
    Target,
)

if TYPE_CHECKING:
    from cleave.builders.cut.cut import Cut
    from cleave.builders.triton.rules import Rule

MIB = 1 << 20

KNOWN_ARCHITECTURES = ("SM80", "SM86", "SM89", "SM120")
"""GPUs that engines are checked for: A100; A10, RTX 30; L4, L40S, RTX 40; RTX 50 and RTX PRO Blackwell."""

ARCHITECTURES = Option(
    "--architectures", {"metavar": "SM,...", "help": f"GPUs to compile for (default: {','.join(KNOWN_ARCHITECTURES)})"}
)
LAYERS = Option("--layers", {"type": Path, "metavar": "DIR", "help": "write the layers of every engine there"})
TIMING_CACHE = Option(
    "--timing-cache",
    {"type": Path, "metavar": "FILE", "help": "read and write measured kernels: the next build is quicker"},
)
MEMORY_LIMIT = Option(
    "--memory-limit",
    {"type": int, "metavar": "MIB", "help": "of the workspace of kernels (default: the GPU's memory)"},
)
VERSION_COMPATIBLE = Option(
    "--version-compatible", {"action": "store_true", "help": "engines that later versions of TensorRT run, too"}
)
HARDWARE_COMPATIBLE = Option(
    "--hardware-compatible", {"action": "store_true", "help": "engines that all GPUs from Ampere on run, slower"}
)


def _configs(cut: Cut) -> ModelConfigs:
    from cleave.builders.targets.tensorrt.config import tensorrt_configs  # noqa: PLC0415 - onnx is slow to import

    return tensorrt_configs(cut)


def _rules() -> Sequence[Rule]:
    from cleave.builders.targets.tensorrt.rules import RULES  # noqa: PLC0415 - gRPC is slow to import

    return RULES


def _prepare(given: Given) -> Callable[[Cut], Built]:
    from cleave.builders.targets.tensorrt.build import EngineBuilder  # noqa: PLC0415
    from cleave.builders.targets.tensorrt.engine import EngineOptions  # noqa: PLC0415 - onnx is slow to import

    limit = given[MEMORY_LIMIT.key]
    if limit is not None and limit < 1:
        raise BuilderError(f"{MEMORY_LIMIT.flag}: expected at least 1 MiB, got {limit}; leave it out for all")
    options = EngineOptions(
        memory_limit_bytes=None if limit is None else limit * MIB,
        timing_cache=given[TIMING_CACHE.key],
        version_compatible=given[VERSION_COMPATIBLE.key],
        hardware_compatible=given[HARDWARE_COMPATIBLE.key],
    )
    return EngineBuilder(options, given[LAYERS.key]).build


def _runner_from_file(file: Path) -> EngineRunner:
    from cleave.builders.targets.tensorrt.verify import runner_from_file  # noqa: PLC0415 - polygraphy is slow to import

    return runner_from_file(file)


def _check(cut: Cut, precision: str, given: Given) -> CheckReport:
    from cleave.builders.targets.tensorrt.check import check_cut  # noqa: PLC0415 - onnx is slow to import

    chosen = tuple(filter(None, (given[ARCHITECTURES.key] or "").split(",")))
    return check_cut(cut, precision, chosen or KNOWN_ARCHITECTURES, given[LAYERS.key])


TENSORRT = Target(
    name="tensorrt",
    help="the graphs, and an engine of each for the GPU of this machine",
    configs=_configs,
    config_name=TENSORRT_CONFIG,
    rules=_rules,
    options=(LAYERS, TIMING_CACHE, MEMORY_LIMIT, VERSION_COMPATIBLE, HARDWARE_COMPATIBLE),
    prepare=_prepare,
    runner_from_file=_runner_from_file,
)

TENSORRT_CHECK = CompileCheck(
    name="tensorrt-check",
    help="compile every graph for GPUs that need not be here, print a table and write nothing",
    check=_check,
    options=(ARCHITECTURES, LAYERS),
)
