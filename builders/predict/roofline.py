"""Predicts latency and throughput of every arm on a processor, from its published peaks or measured ones: a roofline.

A kernel takes the time of its FLOPs at the processor's peak or of its bytes at the memory's bandwidth, whichever is
longer, and a fixed time to be launched; kernels run one after another; what has to cross PCIe does so before. No
kernel reaches its peak, so a prediction is a bound from below. The figures of GPUs are predictions from data
sheets: nothing was run on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cleave.builders.contract.dtypes import DTYPES, TOLERANCES
from cleave.builders.cost.kernels import Kernel, KernelSet
from cleave.builders.cut.cut import Cut
from cleave.builders.names import BATCH
from cleave.builders.predict.arms import PER_CANDIDATE_ROWS, TRITON_ARMS, Arm, flops_of_arm, network_bytes
from cleave.builders.predict.processors import Processor

ATTENTION_KERNELS = frozenset(name for name in TOLERANCES if DTYPES[name].is_narrow_float)
"""Precisions that engines have an attention kernel for; TensorRT has none for float32 tensors."""

FLOAT_BYTES = {"tf32": DTYPES["float32"].bytes, **{name: DTYPES[name].bytes for name in TOLERANCES}}
"""Bytes of a float in memory for each precision of matrix products; TF32 rounds within the product only."""


@dataclass(frozen=True)
class Time:
    """Where the time goes, in milliseconds: each kernel counts for what bounds it."""

    compute_ms: float = 0.0
    memory_ms: float = 0.0
    launch_ms: float = 0.0
    link_ms: float = 0.0

    def __add__(self, other: Time) -> Time:
        return Time(
            self.compute_ms + other.compute_ms,
            self.memory_ms + other.memory_ms,
            self.launch_ms + other.launch_ms,
            self.link_ms + other.link_ms,
        )

    def __mul__(self, count: int) -> Time:
        return Time(self.compute_ms * count, self.memory_ms * count, self.launch_ms * count, self.link_ms * count)

    @property
    def limit_ms(self) -> float:
        """The processor's limit: the least time that the FLOPs and bytes can take, at no cost of launching."""
        return self.compute_ms + self.memory_ms + self.link_ms

    @property
    def total_ms(self) -> float:
        return self.limit_ms + self.launch_ms


@dataclass(frozen=True)
class ArmPrediction:
    """One request of one user on one processor."""

    arm: str
    candidates: int
    flops: int
    weight_bytes: int
    """Of the graphs that run, tables included."""
    activation_bytes: int
    """Read from and written to memory besides weights."""
    summary_bytes: int
    """Kept for the user, or handed from encoder to scorer; 0 where there is no cut."""
    network_bytes: int
    """Inputs that a client sends and scores that it gets. `cached` is asked with a user id and no history."""
    kernels: int
    time: Time
    uncounted: tuple[str, ...]
    """Nodes whose work is unknown, and is not in any of these figures."""

    @property
    def latency_ms(self) -> float:
        """Of one request on an idle processor."""
        return self.time.total_ms

    @property
    def busy_ms(self) -> float:
        """What a request takes of a processor that always has others to do: of the device or the link, the busier one.

        Launches cost nothing then: batches share them, and other instances compute meanwhile.
        """
        return max(self.time.compute_ms + self.time.memory_ms, self.time.link_ms)

    @property
    def candidates_per_s(self) -> float:
        """Of a busy processor."""
        return self.candidates / self.busy_ms * 1000 if self.busy_ms else float("inf")


Runs = list[tuple[int, str, dict[str, int]]]
"""How often which part runs, and its sizes with the batch."""


def _runs(arm: Arm, cut: Cut, sizes: Mapping[str, int]) -> Runs:
    """What runs for one request of one user."""
    if not arm.row_per_candidate:
        return [(1, part, {**sizes, BATCH: 1}) for part in arm.parts]
    axis = cut.ranker.candidate_axis.name
    full, rest = divmod(sizes[axis], PER_CANDIDATE_ROWS)
    calls = [(full, PER_CANDIDATE_ROWS), (1, rest)]
    return [
        (count, part, {**sizes, axis: 1, BATCH: rows}) for part in arm.parts for count, rows in calls if count and rows
    ]


def predict(
    cut: Cut, processor: Processor, sizes: Mapping[str, int], precision: str | None = None
) -> dict[str, ArmPrediction]:
    """What each arm takes for one request of one user, by the name of the arm.

    Args:
        sizes: of every axis by name.
        precision: of matrix products, one that `processor` has a peak for; its first by default.

    Raises:
        ProcessorError: there is no such precision.
    """
    chosen = processor.checked_precision(precision)
    return {name: predict_arm(arm, cut, processor, sizes, chosen) for name, arm in TRITON_ARMS.items()}


def kernels_in(part: KernelSet, precision: str) -> tuple[Kernel, ...]:
    """The kernels that an engine has for a part."""
    return part.with_attention if precision in ATTENTION_KERNELS else part.spelled_out


def time_of_part(part: KernelSet, processor: Processor, precision: str, sizes: Mapping[str, int]) -> Time:
    """What one run of a part takes; `sizes` gives the batch, too."""
    compute = memory = 0.0
    kernels = kernels_in(part, precision)
    for kernel in kernels:
        flops_s = (
            kernel.matrix_flops.at(sizes) / processor.matrix_flops_per_s[precision]
            + kernel.vector_flops.at(sizes) / processor.vector_flops_per_s
        )
        moved = kernel.activation_bytes(sizes, FLOAT_BYTES[precision]) + kernel.weights * FLOAT_BYTES[precision]
        bytes_s = moved / processor.memory_bytes_per_s
        if flops_s >= bytes_s:
            compute += flops_s
        else:
            memory += bytes_s
    return Time(compute * 1000, memory * 1000, len(kernels) * processor.launch_us / 1000)


def predict_arm(arm: Arm, cut: Cut, processor: Processor, sizes: Mapping[str, int], precision: str) -> ArmPrediction:
    """As `predict`, of one arm."""
    runs = _runs(arm, cut, sizes)
    time, activations, kernels = Time(), 0, 0
    for count, name, at in runs:
        part = cut.parts[name].kernels
        time = time + time_of_part(part, processor, precision, at) * count
        needed = kernels_in(part, precision)
        activations += count * sum(kernel.activation_bytes(at, FLOAT_BYTES[precision]) for kernel in needed)
        kernels += count * len(needed)
    parts = [cut.parts[name].kernels for name in dict.fromkeys(name for _, name, _ in runs)]
    summary = cut.summary_bytes(sizes) if arm.reads_summary else 0
    network = network_bytes(arm, cut.ranker, sizes)
    if processor.link_bytes_per_s is not None:
        # The encoder leaves its summary on the device; a kept one comes from the host.
        crossing = network + (summary if arm.keeps_summaries else 0)
        time = time + Time(link_ms=crossing / processor.link_bytes_per_s * 1000)
    return ArmPrediction(
        arm=arm.name,
        candidates=sizes[cut.ranker.candidate_axis.name],
        flops=flops_of_arm(arm, cut.flops, sizes, cut.ranker.candidate_axis.name),
        weight_bytes=sum(part.weight_bytes for part in parts) * FLOAT_BYTES[precision] // FLOAT_BYTES["float32"],
        activation_bytes=activations,
        summary_bytes=summary,
        network_bytes=network,
        kernels=kernels,
        time=time,
        uncounted=tuple(dict.fromkeys(name for part in parts for name in part.uncounted)),
    )
