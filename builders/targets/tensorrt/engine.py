"""From an ONNX graph to a TensorRT engine: one code path for `tensorrt` and, where there is no GPU, `tensorrt_rtx`.

TensorRT for RTX has the same API and the same compiler, and builds for a GPU that is not there. Triton cannot load what
it builds: it is the check that a graph parses, fits its profiles, fuses and compiles.

Polygraphy's loaders do not serve here (0.53): an environment variable decides for the whole process which of the two
modules they use. What the parser says of a node, and the log with the layers and the memory, go to their own logger and
not to the caller, and their config leaves TF32 on.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import time
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from cleave.builders.errors import BuilderError, CheckError
from cleave.builders.files import write_bytes, write_text
from cleave.builders.onnx_graph.scopes import scope_of
from cleave.builders.targets.tensorrt.forms import TensorRTPart
from cleave.builders.targets.tensorrt.layers import Layer, activation_bytes, fused_attentions, layers_from_log
from cleave.builders.targets.tensorrt.profiles import Profile, dims_of
from cleave.builders.targets.tensorrt.target import KNOWN_ARCHITECTURES

TensorRT = Literal["tensorrt", "tensorrt_rtx"]

REMEDIES = {
    "tensorrt": "run this in the container, which carries it",
    "tensorrt_rtx": "run `pip install 'tensorrt-rtx-cu12>=1.7,<1.8'`",
}


class EngineError(BuilderError):
    """TensorRT is missing, or has no such option."""


class RefusedError(CheckError):
    """TensorRT cannot make an engine of a graph."""


@dataclass(frozen=True)
class EngineOptions:
    """How engines are built.

    Args:
        architecture: one of `KNOWN_ARCHITECTURES`, for tensorrt_rtx only; tensorrt builds for the GPU of the machine.
        memory_limit_bytes: of the workspace that kernels may ask for; by default all of the GPU's memory.
        timing_cache: a file of measured kernels that is read and written, so that a second build measures less.
        version_compatible: the engine runs on later versions of TensorRT, too, for some speed and size.
        hardware_compatible: the engine runs on all GPUs from Ampere on, for some speed.
    """

    architecture: str | None = None
    memory_limit_bytes: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False


@dataclass(frozen=True)
class Engine:
    """A serialized engine, and what its build said of it."""

    plan: bytes
    layers: tuple[Layer, ...]
    layer_text: str
    """The same list in TensorRT's own words, with the types and shapes of every layer."""
    profiles: tuple[Profile, ...]
    seconds: float
    activation_bytes: int | None = None
    """That it needs to run, in its largest profile; None where the build does not say."""
    refusals: tuple[str, ...] = ()
    """Why TensorRT did not take better forms of the same part."""

    @property
    def fused_attentions(self) -> tuple[tuple[str, ...], ...]:
        """The ONNX nodes of each attention that became one kernel, whatever the profile."""
        return fused_attentions(self.layers, len(self.profiles))


def import_tensorrt(name: TensorRT) -> types.ModuleType:
    """The module of one of the two TensorRTs.

    Raises:
        EngineError: it is not installed, with what to do.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EngineError(f"{name}: expected it to be installed, got {error}; {REMEDIES[name]}") from error


def engine_from_onnx(
    trt: Any, model: onnx.ModelProto, profiles: Sequence[Profile], options: EngineOptions | None = None
) -> Engine:
    """Build the engine of a graph; strongly typed, so that every precision is the graph's own.

    Args:
        trt: the module, from `import_tensorrt`.

    Raises:
        RefusedError: names the node that TensorRT does not take, or what its compiler says.
        EngineError: an option that this TensorRT does not have.
    """
    options = options or EngineOptions()
    began = time.perf_counter()
    log = _log_of(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model.SerializeToString()):
        raise RefusedError(_parser_message(parser, model))
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)  # what the graph has in float32 needs its 24 bits, and TF32 has 11
    for profile in profiles:
        config.add_optimization_profile(_trt_profile(builder, profile, model))
    _apply(trt, config, options)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RefusedError(
            f"{model.graph.name}: TensorRT {trt.__version__} cannot compile the graph: {'; '.join(log.errors)}; "
            "change what it names, or leave it to ONNX Runtime"
        )
    if options.timing_cache is not None:
        write_bytes(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    listed = next((message for message in log.messages if message.startswith("Layers:")), "")
    return Engine(
        bytes(plan),
        layers_from_log([listed]),
        listed,
        tuple(profiles),
        time.perf_counter() - began,
        activation_bytes(log.messages),
    )


def engine_from_part(trt: Any, part: TensorRTPart, options: EngineOptions) -> Engine:
    """The engine of the first form of a part that TensorRT takes, with the profiles of that form.

    Raises:
        RefusedError: it takes none; says why not the last.
    """
    *better, last = part.forms
    refusals: list[str] = []
    for form in better:
        try:
            engine = engine_from_onnx(trt, form.model, form.profiles, options)
        except RefusedError as error:
            refusals.append(str(error))
        else:
            return dataclasses.replace(engine, refusals=tuple(refusals))
    engine = engine_from_onnx(trt, last.model, last.profiles, options)
    return dataclasses.replace(engine, refusals=tuple(refusals))


def write_layers(file: Path, engine: Engine) -> None:
    """Write the list of layers of an engine."""
    write_text(file, engine.layer_text)


def _log_of(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc] # the class to derive from is only known here
        """Keeps every message: errors to raise, and the list of layers, which comes as a detail."""

        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            self.messages.append(message)
            if severity <= trt.ILogger.ERROR:
                self.errors.append(" ".join(message.split()))

    return Log()


def _strongly_typed(trt: Any) -> int:
    """The flag of a network whose types are the graph's; from TensorRT 11 on there is no other kind."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


BITS = ("BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor")
"""Operators that TensorRT does not have for any type."""


def _parser_message(parser: Any, model: onnx.ModelProto) -> str:
    first = parser.get_error(0)
    node = model.graph.node[first.node()] if 0 <= first.node() < len(model.graph.node) else None
    if node is None:  # it fails on the type of a constant, before it comes to a node
        node = next((each for each in model.graph.node if each.op_type in BITS), None)
    where = model.graph.name if node is None else f"{model.graph.name}: {node.name} ({node.op_type})"
    if node is not None and node.op_type in BITS:
        return (
            f"{where}: expected operators that TensorRT has, got one on the bits of integers; let module "
            f"{scope_of(node)!r} hash by products, remainders and divisions, as ids * 2654435761 % n, or leave it to "
            "ONNX Runtime"
        )
    return (
        f"{where}: expected a node that TensorRT takes, got {first.desc()}; write it with other operators in the module"
    )


def _trt_profile(builder: Any, profile: Profile, model: onnx.ModelProto) -> Any:
    made = builder.create_optimization_profile()
    for value in model.graph.input:
        made.set_shape(value.name, *profile.shapes(dims_of(value)))
    return made


def _apply(trt: Any, config: Any, options: EngineOptions) -> None:
    is_check = trt.__name__ == "tensorrt_rtx"
    if is_check != (options.architecture is not None):
        expected = "an architecture" if is_check else "none, as engines are built for the GPU of this machine"
        raise EngineError(f"{trt.__name__}: expected {expected}, got {options.architecture}; correct the option")
    refused = [name for name in ("timing_cache", "version_compatible") if is_check and getattr(options, name)]
    if refused:
        raise EngineError(f"{trt.__name__}: it has no {' and no '.join(refused)}; leave it out")
    if options.architecture is not None:
        known = trt.ComputeCapability.__members__
        if options.architecture not in known:
            raise EngineError(
                f"--architectures: expected some of {', '.join(KNOWN_ARCHITECTURES)}, got {options.architecture!r}; "
                "choose"
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(known[options.architecture], 0)
    if options.memory_limit_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.memory_limit_bytes)
    if options.timing_cache is not None:
        _take_timings(config, options.timing_cache)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _take_timings(config: Any, file: Path) -> None:
    """Let a build use what was measured before; nothing, if that was another TensorRT's or another GPU's."""
    if file.is_file():
        known = config.create_timing_cache(file.read_bytes())
        if known is not None and config.set_timing_cache(known, False):
            return
        print(f"{file}: of another TensorRT or GPU, so that everything is measured again", file=sys.stderr)
    config.set_timing_cache(config.create_timing_cache(b""), False)
