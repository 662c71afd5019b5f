"""Processors, and what bounds them: their peaks, published or measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cleave.builders.errors import BuilderError

LAUNCH_US = 3.0
"""An assumption for every GPU: what a kernel costs besides its work, between about 1 (CUDA graphs) and 5 or more."""


class ProcessorError(BuilderError):
    """A processor or a precision that is not known."""


@dataclass(frozen=True)
class Processor:
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

    def checked_precision(self, precision: str | None) -> str:
        """The precision, or the processor's own if none is given.

        Raises:
            ProcessorError: the processor has no peak for it.
        """
        if precision is not None and precision not in self.matrix_flops_per_s:
            known = ", ".join(self.matrix_flops_per_s)
            raise ProcessorError(f"--precision: {self.name}: expected one of {known}, got {precision!r}; choose one")
        return precision or self.precision


def _gpu(
    name: str, tf32: float, float16: float, float32: float, memory_gb: float, pcie_gb: float, source: str
) -> Processor:
    """Peaks in TFLOP/s and GB/s; the sheets give PCIe for both directions together, `pcie_gb` is one of them."""
    peaks = {"tf32": tf32 * 1e12, "float16": float16 * 1e12, "float32": float32 * 1e12}
    return Processor(name, peaks, float32 * 1e12, memory_gb * 1e9, pcie_gb * 1e9, LAUNCH_US, source)


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


def gpu(name: str) -> Processor:
    """A GPU by name.

    Raises:
        ProcessorError: its data sheet is not here.
    """
    if name.upper() not in GPUS:
        raise ProcessorError(f"--gpu: expected one of {', '.join(GPUS)}, got {name!r}; choose one of them")
    return GPUS[name.upper()]
