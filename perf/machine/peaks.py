"""Measures the peaks of this machine's processor with ONNX Runtime, in a second or two."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from cleave.builders.export.torch_export import OPSET
from cleave.builders.predict.processors import Processor
from cleave.perf.machine.environment import processor_name

PRODUCT_SIZE = 512
"""Rows and columns of the matrices whose product is timed: it takes a millisecond, short enough to run undisturbed."""
VECTOR_SHAPE = (1024, 256)
"""The shape of the array of elementwise operations: 1 MiB stays in the caches, so that memory does not count."""
VECTOR_OPERATORS = {"Add": 1, "Gelu": 1, "Softmax": 4}
"""FLOPs per element as `cleave.builders.cost.flops` counts them; the rate is that of all these operators together."""
MEMORY_BYTES = 1 << 27
"""The size of the array that is copied; with its copy it is larger than the caches of the processor."""
COPIES = 16
"""The array is copied in so many pieces, one per call: short enough to run undisturbed, and no piece is copied again
before all others have been."""
CHAIN = 200
"""The number of nodes in a chain, each of which computes one element: it takes hardly more than its launch."""
IR_VERSION = 10
"""ONNX Runtime does not read the newest version that the package onnx writes."""
SECONDS_EACH = 0.3
"""A figure is the best of the calls that fit in this time: the peak of the processor, whatever else runs on it."""


def measure(threads: int | None = None) -> Processor:
    """The peaks of this machine's processor: float32 products, elementwise operations, memory, and launching a node.

    Args:
        threads: the threads of ONNX Runtime; by default as many as the cores that this process may use.
    """
    threads = threads or len(os.sched_getaffinity(0))
    product = _product_flops_per_s(threads)
    return Processor(
        name=f"{processor_name()}, {threads} thread{'s' * (threads > 1)}",
        matrix_flops_per_s={"float32": product},
        vector_flops_per_s=_vector_flops_per_s(threads),
        memory_bytes_per_s=_memory_bytes_per_s(threads),
        link_bytes_per_s=None,
        launch_us=_launch_us(threads),
        source=f"measured by perf/machine/peaks.py with ONNX Runtime {onnxruntime.__version__}",
        measured=True,
    )


def best_of(first: Processor, second: Processor) -> Processor:
    """The best of two measurements of one processor: a peak is what it reached when it was disturbed less."""
    return replace(
        first,
        matrix_flops_per_s={
            precision: max(rate, second.matrix_flops_per_s[precision])
            for precision, rate in first.matrix_flops_per_s.items()
        },
        vector_flops_per_s=max(first.vector_flops_per_s, second.vector_flops_per_s),
        memory_bytes_per_s=max(first.memory_bytes_per_s, second.memory_bytes_per_s),
        launch_us=min(first.launch_us, second.launch_us),
    )


def _product_flops_per_s(threads: int) -> float:
    matrix = np.full((PRODUCT_SIZE, PRODUCT_SIZE), 0.5, np.float32)
    session = _session([helper.make_node("MatMul", ["x", "x"], ["y"])], threads)
    return 2 * PRODUCT_SIZE**3 / _best_s(partial(session.run, None, {"x": matrix}))


def _vector_flops_per_s(threads: int) -> float:
    array = np.full(VECTOR_SHAPE, 0.5, np.float32)
    seconds = 0.0
    for operator in VECTOR_OPERATORS:
        inputs = ["x", "x"] if operator == "Add" else ["x"]
        session = _session([helper.make_node(operator, inputs, ["y"])], threads)
        seconds += _best_s(partial(session.run, None, {"x": array}), SECONDS_EACH / len(VECTOR_OPERATORS))
    return array.size * sum(VECTOR_OPERATORS.values()) / seconds


def _memory_bytes_per_s(threads: int) -> float:
    """The bandwidth of a copy, which reads as much as it writes, on all threads at once."""
    read, written = (np.full((COPIES, MEMORY_BYTES // COPIES), value, np.uint8) for value in (1, 0))
    pieces = itertools.cycle(zip(written, read, strict=True))
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            shares = zip(*(np.array_split(piece, threads) for piece in next(pieces)), strict=True)
            list(pool.map(lambda share: np.copyto(*share), shares))

        return 2 * MEMORY_BYTES / COPIES / _best_s(copy)


def _launch_us(threads: int) -> float:
    names = ["x", *(f"x{place}" for place in range(1, CHAIN)), "y"]
    nodes = [helper.make_node("Add", [read, "x"], [made]) for read, made in itertools.pairwise(names)]
    session = _session(nodes, threads)
    return _best_s(partial(session.run, None, {"x": np.ones(1, np.float32)})) / CHAIN * 1e6


def _session(nodes: Sequence[onnx.NodeProto], threads: int) -> onnxruntime.InferenceSession:
    """A session of a graph from x to y."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    graph = helper.make_graph(nodes, "peak", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _best_s(call: Callable[[], object], seconds: float = SECONDS_EACH) -> float:
    """The seconds of the fastest of the calls that fit in this time, at least one, after a first one that warms up."""
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return best
