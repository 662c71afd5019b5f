"""An ONNX Runtime session with the options that the official Triton backend reads from the same config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime

from cleave.builders.contract.dtypes import DTYPES
from cleave.builders.names import NICE_PARAMETER, VARIABLE
from cleave.serving.errors import ModelError
from cleave.serving.model_config import Config, named, optional_parameter

_LEVELS = {
    -1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_MODES = {0: onnxruntime.ExecutionMode.ORT_SEQUENTIAL, 1: onnxruntime.ExecutionMode.ORT_PARALLEL}
_FATAL_ONLY = 4

_TRITON_TYPES = {row.onnxruntime: f"TYPE_{row.triton}" for row in DTYPES.values() if row.in_numpy}


def open_session(file: Path, config: Config) -> Any:
    """The graph of `file`, ready to run on the CPU.

    Raises:
        ModelError: the file is no graph, a parameter is not understood, or inputs or outputs do not fit the config.
    """
    where = named(config)
    try:
        session = onnxruntime.InferenceSession(str(file), session_options(config), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own errors have no common class
        raise ModelError(f"{where}: ONNX Runtime cannot load {file} ({_one_line(error)}); build it anew") from error
    _check_tensors("input", config, session.get_inputs())
    _check_tensors("output", config, session.get_outputs())
    return session


def run_options(config: Config) -> Any:
    """The options of every run of the session."""
    options = onnxruntime.RunOptions()
    options.log_severity_level = _FATAL_ONLY  # a refused request is answered, it need not fill the log
    shrinkage = optional_parameter(config, "memory.enable_memory_arena_shrinkage")
    if shrinkage:
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", shrinkage)
    return options


def yield_cpu(config: Config) -> None:
    """Let this thread, and those it makes from now on, yield the CPU to others as the config says.

    Raises:
        ModelError: the parameter is not understood.
    """
    os.nice(_number(config, NICE_PARAMETER, highest=19))


def session_options(config: Config) -> Any:
    """The options of a session; where the config is silent, those of ONNX Runtime.

    Raises:
        ModelError: a parameter is not understood.
    """
    options = onnxruntime.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = _LEVELS.get(level, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    options.execution_mode = _MODES[_number(config, "execution_mode", highest=1)]
    options.intra_op_num_threads = _number(config, "intra_op_thread_count")
    options.inter_op_num_threads = _number(config, "inter_op_thread_count")
    options.enable_cpu_mem_arena = bool(_number(config, "enable_mem_arena", default=1, highest=1))
    options.enable_mem_pattern = bool(_number(config, "enable_mem_pattern", default=1, highest=1))
    # Encoder and scorer are processes of their own on the same cores. A pool that spins after its run keeps a core from
    # the other: taking turns on 2 cores (n = 1024, m = 512, l = 3, d = 128) 45 and 28 ms with it, 24 and 16 without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _number(config: Config, name: str, default: int = 0, highest: int | None = None) -> int:
    text = optional_parameter(config, name)
    if text is None:
        return default
    if not text.isdecimal() or (highest is not None and int(text) > highest):
        wanted = "a whole number" if highest is None else f"0 to {highest}"
        raise ModelError(f"{named(config)}: parameter {name!r}: expected {wanted}, got {text!r}; correct config.pbtxt")
    return int(text)


def _check_tensors(kind: str, config: Config, tensors: Any) -> None:
    """Outputs may be left out of a config, inputs may not."""
    where = named(config)
    entries = {entry["name"]: entry for entry in config[kind]}
    graph = {tensor.name: tensor for tensor in tensors}
    different = sorted(set(entries) ^ set(graph) if kind == "input" else set(entries) - set(graph))
    if different:
        raise ModelError(
            f"{where}: {kind}s: expected those of the graph ({', '.join(graph)}), got {', '.join(entries)}, which "
            f"differ in {', '.join(different)}; build config and graph together"
        )
    for name, entry in entries.items():
        got = entry["data_type"], _config_dims(config, entry)
        expected = _TRITON_TYPES.get(graph[name].type, graph[name].type), _graph_dims(graph[name])
        if got[0] != expected[0] or not _fit(got[1], expected[1], loose=kind == "output"):
            raise ModelError(
                f"{where}: {kind} {name!r}: expected {expected[0]} {expected[1]} as in the graph, got {got[0]} "
                f"{got[1]} in the config (-1 varies); build config and graph together"
            )


def _config_dims(config: Config, entry: Mapping[str, Any]) -> list[int]:
    dims = entry["reshape"]["shape"] if "reshape" in entry else entry["dims"]
    return [VARIABLE] * (config["max_batch_size"] > 0) + [int(size) for size in dims]


def _graph_dims(tensor: Any) -> list[int]:
    return [size if isinstance(size, int) else VARIABLE for size in tensor.shape]


def _fit(config: list[int], graph: list[int], loose: bool) -> bool:
    """A graph may leave a size open that the config fixes; the other way round does no harm in outputs."""
    return len(config) == len(graph) and all(
        in_graph in (VARIABLE, in_config) or (loose and in_config == VARIABLE)
        for in_config, in_graph in zip(config, graph, strict=True)
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
