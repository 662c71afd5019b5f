"""Builds the engines of a cut for the GPU of this machine, with what a server must know before it loads one."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cleave.builders.contract.engine_record import EngineRecord
from cleave.builders.contract.gpus import HostError, compute_capabilities
from cleave.builders.cut.cut import Cut
from cleave.builders.names import PLAN_FILE
from cleave.builders.targets.target import Built, BuiltEngine
from cleave.builders.targets.tensorrt.config import tensorrt_configs
from cleave.builders.targets.tensorrt.engine import (
    Engine,
    EngineOptions,
    engine_from_part,
    import_tensorrt,
    write_layers,
)
from cleave.builders.targets.tensorrt.forms import TensorRTPart, tensorrt_parts
from cleave.builders.targets.tensorrt.target import TENSORRT


class EngineBuilder:
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

    def build(self, cut: Cut) -> Built:
        """The engine of each part, and the configs with the profiles of the forms that TensorRT took.

        Progress, and why TensorRT did not take a better form, go to stderr.

        Raises:
            RefusedError: TensorRT takes no form of a part.
        """
        engines, profiles = {}, {}
        parts = tensorrt_parts(cut)
        print(f"{cut.ranker.name}: building {len(parts)} engines", file=sys.stderr)
        for part in tqdm(parts, unit="engine", disable=not sys.stderr.isatty()):
            engine = engine_from_part(self._trt, part, self._options)
            for refusal in engine.refusals:
                said = f"built with attention spelled out, as TensorRT refuses the other: {refusal}"
                tqdm.write(f"{part.name}: {said}", file=sys.stderr)
            if self._layers is not None:
                write_layers(self._layers / f"{part.name}.txt", engine)
            engines[part.name] = BuiltEngine(engine.plan, self._record(part, engine))
            profiles[part.name] = engine.profiles
        return Built(TENSORRT.name, engines, tensorrt_configs(cut, profiles))

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
