"""ONNX Runtime as a target, on one of its execution providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cleave.builders.targets.target import ModelConfigs, Target

if TYPE_CHECKING:
    from cleave.builders.cut.cut import Cut
    from cleave.builders.targets.onnxruntime.config import Provider

NAMES: dict[Provider, tuple[str, str, str | None]] = {
    "cpu": ("onnx", "the graphs, for ONNX Runtime on the CPU", None),
    "cuda": ("onnx-cuda", "the graphs, for ONNX Runtime on a GPU", "onnxruntime_cuda"),
}
"""The target's name, what it is, and the name of its configs."""


def onnxruntime_target(provider: Provider) -> Target:
    """The graphs as they are, run by ONNX Runtime.

    Args:
        provider: what executes them. `cleave serve` runs the one of the CPU only, so that the registry has no other.
    """

    def configs(cut: Cut) -> ModelConfigs:
        from cleave.builders.targets.onnxruntime.config import onnxruntime_configs  # noqa: PLC0415 - slow to import

        return onnxruntime_configs(cut, provider)

    name, what, config_name = NAMES[provider]
    return Target(name, what, configs, config_name)
