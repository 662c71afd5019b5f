"""A `tensorrt` for machines that have none: TensorRT for RTX up to the config, then a plan that is none."""

from __future__ import annotations

import types
from typing import Any

VERSION = "11.1.0.106"


class RecordingConfig:
    """Its builder config: remembers what it is told."""

    def __init__(self, config: Any) -> None:
        self.profiling_verbosity = None
        self.hardware_compatibility_level = None
        self.config = config
        self.calls: dict[str, Any] = {}

    def add_optimization_profile(self, profile: Any) -> None:
        self.config.add_optimization_profile(profile)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.calls["memory"] = (pool, size)

    def set_flag(self, flag: Any) -> None:
        self.calls["flag"] = flag

    def clear_flag(self, flag: Any) -> None:
        self.calls["cleared"] = flag

    def create_timing_cache(self, known: bytes) -> bytes | None:
        """None of what is damaged."""
        return None if known == b"damaged" else b"measured before: " + known

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        """False for what another TensorRT measured."""
        assert cache is not None
        if b"elsewhere" in cache:
            return False
        self.calls["timing_cache"] = (cache, ignore_mismatch)
        return True

    def get_timing_cache(self) -> Any:
        return types.SimpleNamespace(serialize=lambda: b"measured now")


class RecordingTensorRT(types.ModuleType):
    """The module."""

    def __init__(self, trt: Any) -> None:
        super().__init__("tensorrt")
        self.__version__ = VERSION
        self.trt = trt
        self.configs: list[RecordingConfig] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trt, name)

    def Builder(self, log: Any) -> Any:  # noqa: N802 - TensorRT's name
        builder = self.trt.Builder(log)

        def create_builder_config() -> RecordingConfig:
            self.configs.append(RecordingConfig(builder.create_builder_config()))
            return self.configs[-1]

        return types.SimpleNamespace(
            create_network=builder.create_network,
            create_builder_config=create_builder_config,
            create_optimization_profile=builder.create_optimization_profile,
            build_serialized_network=lambda network, config: b"plan",
        )
