"""Predicts latency and throughput of every arm on a machine, from its published peaks or measured ones: a roofline.

A kernel takes the time of its FLOPs at the machine's peak or of its bytes at the memory's bandwidth, whichever is
longer, and a fixed time to be launched; kernels run one after another; what has to cross PCIe does so before. No
kernel reaches its peak, so a prediction is a bound from below. The figures of GPUs are predictions from data
sheets: nothing was run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cleave.builders.cost.kernels import Kernel, KernelSet
from cleave.builders.cut.cut import Cut
from cleave.builders.errors import BuilderError
from cleave.builders.names import BATCH
from cleave.builders.spec import Axis, Ranker, Tensor

PER_CANDIDATE_ROWS = 16
"""Candidates of one call of the arm `per_candidate`: enough rows to fill matrix products, little enough memory."""

LAUNCH_US = 3.0
"""An assumption for every GPU: what a kernel costs besides its work, between about 1 (CUDA graphs) and 5 or more."""

ATTENTION_KERNELS = frozenset(["float16"])
"""Precisions that engines have an attention kernel for; TensorRT has none for float32 tensors."""

FLOAT_BYTES = {"float32": 4, "tf32": 4, "float16": 2}
"""Bytes of a float in memory for each precision of matrix products; TF32 rounds within the product only."""


class RooflineError(BuilderError):
    """A machine or precision that is not known."""


@dataclass(frozen=True)
class Machine:
    """What bounds a processor: peaks, in FLOP/s and bytes/s, and what they were taken from."""

    name: str
    matrix_flops_per_s: Mapping[str, float]
    """Of dense matrix products for each precision; the first is what a float32 graph runs with unless told."""
    vector_flops_per_s: float
    """Of all other operations."""
    memory_bytes_per_s: float
    link_bytes_per_s: float | None
    """In one direction between the host, where inputs arrive and summaries are kept, and the device; None where the
    device is the host."""
    launch_us: float
    """Microseconds a kernel takes besides its work."""
    source: str
    measured: bool = False
    """False where the figures are a data sheet's."""

    @property
    def precision(self) -> str:
        """What matrix products of a float32 graph run in by default."""
        return next(iter(self.matrix_flops_per_s))


def _gpu(
    name: str, tf32: float, float16: float, float32: float, memory_gb: float, pcie_gb: float, source: str
) -> Machine:
    """Peaks in TFLOP/s and GB/s; the sheets give PCIe for both directions together, `pcie_gb` is one of them."""
    peaks = {"tf32": tf32 * 1e12, "float16": float16 * 1e12, "float32": float32 * 1e12}
    return Machine(name, peaks, float32 * 1e12, memory_gb * 1e9, pcie_gb * 1e9, LAUNCH_US, source)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("A10", 62.5, 125, 31.2, 600, 32, "NVIDIA A10 Tensor Core GPU data sheet (dense figures)"),
        _gpu("L4", 60, 121, 30.3, 300, 32, "NVIDIA L4 Tensor Core GPU data sheet (half of its figures with sparsity)"),
        _gpu("L40S", 183, 362.05, 91.6, 864, 32, "NVIDIA L40S data sheet (dense figures)"),
        _gpu("A100", 156, 312, 19.5, 2039, 32, "NVIDIA A100 Tensor Core GPU data sheet, 80GB SXM (dense figures)"),
        _gpu(
            "H100", 494.5, 989.5, 67, 3350, 64, "NVIDIA H100 Tensor Core GPU data sheet, SXM (half of its figures with "
            "sparsity)",
        ),
    )
}  # fmt: skip
"""By name. TensorRT multiplies float32 matrices in TF32 by default, so that is the first precision."""


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
        """The machine's limit: the least time that the FLOPs and bytes can take, at no cost of launching."""
        return self.compute_ms + self.memory_ms + self.link_ms

    @property
    def total_ms(self) -> float:
        return self.limit_ms + self.launch_ms


@dataclass(frozen=True)
class ArmPrediction:
    """One request of one user on one machine."""

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
        """Of one request on an idle machine."""
        return self.time.total_ms

    @property
    def busy_ms(self) -> float:
        """What a request takes of a machine that always has others to do: of the device or the link, the busier one.

        Launches cost nothing then: batches share them, and other instances compute meanwhile.
        """
        return max(self.time.compute_ms + self.time.memory_ms, self.time.link_ms)

    @property
    def candidates_per_s(self) -> float:
        """Of a busy machine."""
        return self.candidates / self.busy_ms * 1000 if self.busy_ms else float("inf")


Runs = list[tuple[int, str, dict[str, int]]]
"""How often which part runs, and its sizes with the batch."""


def _per_candidate(cut: Cut, sizes: Mapping[str, int]) -> Runs:
    axis = cut.ranker.candidate_axis.name
    full, rest = divmod(sizes[axis], PER_CANDIDATE_ROWS)
    calls = [(full, PER_CANDIDATE_ROWS), (1, rest)]
    return [(count, "whole", {**sizes, axis: 1, BATCH: rows}) for count, rows in calls if count and rows]


def _once(*parts: str) -> Callable[[Cut, Mapping[str, int]], Runs]:
    return lambda cut, sizes: [(1, part, {**sizes, BATCH: 1}) for part in parts]


ARMS: dict[str, Callable[[Cut, Mapping[str, int]], Runs]] = {
    "per_candidate": _per_candidate,
    "single_pass": _once("whole"),
    "uncached": _once("history_encoder", "candidate_scorer"),
    "cached": _once("candidate_scorer"),
}
"""The ways to serve a request of one user, by name."""


def predict(
    cut: Cut, machine: Machine, sizes: Mapping[str, int], precision: str | None = None
) -> dict[str, ArmPrediction]:
    """What each arm takes for one request of one user, by the name of the arm.

    Args:
        sizes: of every axis by name.
        precision: of matrix products, one that `machine` has a peak for; the machine's first by default.

    Raises:
        RooflineError: there is no such precision.
    """
    chosen = checked_precision(machine, precision)
    return {arm: predict_arm(arm, cut, machine, sizes, chosen) for arm in ARMS}


def checked_precision(machine: Machine, precision: str | None) -> str:
    """The precision, or the machine's own if none is given.

    Raises:
        RooflineError: the machine has no peak for it.
    """
    if precision is not None and precision not in machine.matrix_flops_per_s:
        known = ", ".join(machine.matrix_flops_per_s)
        raise RooflineError(f"--precision: {machine.name}: expected one of {known}, got {precision!r}; choose one")
    return precision or machine.precision


def gpu(name: str) -> Machine:
    """A GPU by name.

    Raises:
        RooflineError: its data sheet is not here.
    """
    if name.upper() not in GPUS:
        raise RooflineError(f"--gpu: expected one of {', '.join(GPUS)}, got {name!r}; choose one of them")
    return GPUS[name.upper()]


def kernels_in(part: KernelSet, precision: str) -> tuple[Kernel, ...]:
    """The kernels that an engine has for a part."""
    return part.with_attention if precision in ATTENTION_KERNELS else part.spelled_out


def time_of_part(part: KernelSet, machine: Machine, precision: str, sizes: Mapping[str, int]) -> Time:
    """What one run of a part takes; `sizes` gives the batch, too."""
    compute = memory = 0.0
    kernels = kernels_in(part, precision)
    for kernel in kernels:
        flops_s = (
            kernel.matrix_flops.at(sizes) / machine.matrix_flops_per_s[precision]
            + kernel.vector_flops.at(sizes) / machine.vector_flops_per_s
        )
        moved = kernel.activation_bytes(sizes, FLOAT_BYTES[precision]) + kernel.weights * FLOAT_BYTES[precision]
        bytes_s = moved / machine.memory_bytes_per_s
        if flops_s >= bytes_s:
            compute += flops_s
        else:
            memory += bytes_s
    return Time(compute * 1000, memory * 1000, len(kernels) * machine.launch_us / 1000)


def predict_arm(arm: str, cut: Cut, machine: Machine, sizes: Mapping[str, int], precision: str) -> ArmPrediction:
    """As `predict`, of one of `ARMS`."""
    runs = ARMS[arm](cut, sizes)
    time, activations, kernels = Time(), 0, 0
    for count, name, at in runs:
        part = cut.parts[name]
        time = time + time_of_part(part, machine, precision, at) * count
        needed = kernels_in(part, precision)
        activations += count * sum(kernel.activation_bytes(at, FLOAT_BYTES[precision]) for kernel in needed)
        kernels += count * len(needed)
    parts = [cut.parts[name] for name in dict.fromkeys(name for _, name, _ in runs)]
    summary = cut.summary_bytes(sizes) if arm in ("uncached", "cached") else 0
    network = network_bytes(cut.ranker, sizes)[arm]
    if machine.link_bytes_per_s is not None:
        # The encoder leaves its summary on the device; a kept one comes from the host.
        crossing = network + (summary if arm == "cached" else 0)
        time = time + Time(link_ms=crossing / machine.link_bytes_per_s * 1000)
    return ArmPrediction(
        arm=arm,
        candidates=sizes[cut.ranker.candidate_axis.name],
        flops=getattr(cut.arms(sizes), arm),
        weight_bytes=sum(part.weight_bytes for part in parts) * FLOAT_BYTES[precision] // FLOAT_BYTES["float32"],
        activation_bytes=activations,
        summary_bytes=summary,
        network_bytes=network,
        kernels=kernels,
        time=time,
        uncounted=tuple(dict.fromkeys(name for part in parts for name in part.uncounted)),
    )


def network_bytes(ranker: Ranker, sizes: Mapping[str, int]) -> dict[str, int]:
    """The tensors of one request and of its answer in each arm; of user ids, headers and padding nothing is counted."""
    user, request, pairs = (
        sum(_tensor_bytes(tensor, sizes) for tensor in tensors)
        for tensors in (ranker.user, ranker.request, ranker.candidate + ranker.output)
    )
    rows = sizes[ranker.candidate_axis.name]
    once = user + request + pairs
    return {
        "per_candidate": rows * (user + request) + pairs,
        "single_pass": once,
        "uncached": once,
        "cached": request + pairs,
    }


def _tensor_bytes(tensor: Tensor, sizes: Mapping[str, int]) -> int:
    count = tensor.numpy_dtype.itemsize
    for axis in tensor.axes:
        count *= sizes[axis.name] if isinstance(axis, Axis) else axis
    return count
