"""Builds the engines of a cut for the GPU of this machine, with what a server must know before it loads one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cleave.builders.contract.engine_record import EngineRecord, HostError, compute_capabilities
from cleave.builders.names import PLAN_FILE
from cleave.builders.targets.tensorrt.engine import (
    Engine,
    EngineOptions,
    engine_from_part,
    import_tensorrt,
    write_layers,
)
from cleave.builders.targets.tensorrt.forms import TensorRTPart
from cleave.builders.targets.tensorrt.profiles import Profile


@dataclass(frozen=True)
class BuiltPlan:
    """An engine, and what its manifest says of it."""

    engine: bytes
    record: EngineRecord
    profiles: tuple[Profile, ...]
    """Of the form that TensorRT took; its config is to have them, too."""
    refusals: tuple[str, ...] = ()
    """Why TensorRT did not take a better form."""


class PlanBuilder:
    """TensorRT and the GPU that it builds for; made before anything slow is begun.

    Args:
        options: how engines are built.
        layers: a folder that gets the list of layers of each engine as `<part>.txt`.

    Raises:
        EngineError: TensorRT is not installed.
        HostError: there is no GPU, or several kinds, of which an engine fits one.
    """

    def __init__(self, options: EngineOptions, layers: Path | None = None) -> None:
        self._trt: Any = import_tensorrt("tensorrt")
        self._options = options
        self._layers = layers
        kinds = compute_capabilities()
        if len(kinds) > 1:
            raise HostError(
                f"nvidia-smi: expected GPUs of one compute capability, got {', '.join(kinds)}; let the container see "
                "GPUs of one kind (--gpus device=N)"
            )
        self._compute_capability = kinds[0]

    def plans(self, parts: Sequence[TensorRTPart]) -> Iterator[tuple[str, BuiltPlan]]:
        """The engine of each part by the model's name; yields as they are done.

        Raises:
            RefusedError: TensorRT takes no form of a part.
        """
        for part in parts:
            engine = engine_from_part(self._trt, part, self._options)
            if self._layers is not None:
                write_layers(self._layers / f"{part.name}.txt", engine)
            yield part.name, BuiltPlan(engine.plan, self._record(part, engine), engine.profiles, engine.refusals)

    def _record(self, part: TensorRTPart, engine: Engine) -> EngineRecord:
        return EngineRecord(
            file=PLAN_FILE,
            sha256=hashlib.sha256(engine.plan).hexdigest(),
            tensorrt=self._trt.__version__,
            compute_capability=self._compute_capability,
            version_compatible=self._options.version_compatible,
            hardware_compatible=self._options.hardware_compatible,
            profiles=[profile.bounds() for profile in engine.profiles],
            activation_bytes=engine.activation_bytes,
            attentions=part.num_attentions,
            fused_attentions=len(engine.fused_attentions),
        )
