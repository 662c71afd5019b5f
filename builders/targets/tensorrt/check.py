"""Compiles every part of a cut for GPUs that are not there, and says what came of it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from cleave.builders.cut.cut import Cut
from cleave.builders.formatting import markdown_table
from cleave.builders.targets.target import CheckReport
from cleave.builders.targets.tensorrt.engine import (
    EngineOptions,
    RefusedError,
    engine_from_part,
    import_tensorrt,
    write_layers,
)
from cleave.builders.targets.tensorrt.forms import TensorRTPart, tensorrt_parts

COLUMNS = (
    "part",
    "precision",
    "GPU",
    "profiles",
    "engine bytes",
    "fused attention layers",
    "activation bytes",
    "seconds",
)


@dataclass(frozen=True)
class CheckedPart:
    """What came of one part for one architecture."""

    part: str
    precision: str
    architecture: str
    num_profiles: int
    engine_bytes: int
    fused_attentions: tuple[tuple[str, ...], ...]
    """The ONNX nodes of each."""
    seconds: float
    activation_bytes: int | None = None
    """As of `Engine`."""
    refusal: str = ""
    """Why there is no engine; empty where there is one."""

    @property
    def cells(self) -> tuple[str, ...]:
        """As a row of a table with `COLUMNS`."""
        of_engine = ("refused", "", "", "")
        if not self.refusal:
            needs = "" if self.activation_bytes is None else f"{self.activation_bytes:,}"
            of_engine = (f"{self.engine_bytes:,}", str(len(self.fused_attentions)), needs, f"{self.seconds:.1f}")
        return (self.part, self.precision, self.architecture, str(self.num_profiles), *of_engine)


def check_engines(
    parts: Sequence[TensorRTPart], precision: str, architectures: Sequence[str], layers: Path | None = None
) -> Iterator[CheckedPart]:
    """Build the engine of each part for each architecture with TensorRT for RTX; yields as they are done.

    Args:
        layers: a folder that gets the list of layers of each engine as `<part>-<architecture>.txt`.

    Raises:
        EngineError: TensorRT for RTX is not installed, or knows no such architecture.
    """
    trt = import_tensorrt("tensorrt_rtx")
    for part in parts:
        for architecture in architectures:
            known = (part.name, precision, architecture, len(part.forms[0].profiles))
            try:
                engine = engine_from_part(trt, part, EngineOptions(architecture))
            except RefusedError as error:
                yield CheckedPart(*known, 0, (), 0.0, refusal=str(error))
                continue
            if layers is not None:
                write_layers(layers / f"{part.name}-{architecture}.txt", engine)
            yield CheckedPart(
                *known, len(engine.plan), engine.fused_attentions, engine.seconds, engine.activation_bytes
            )


def check_cut(cut: Cut, precision: str, architectures: Sequence[str], layers: Path | None = None) -> CheckReport:
    """As `check_engines`, of every part of a cut, with the progress on stderr."""
    parts = tensorrt_parts(cut)
    found = check_engines(parts, precision, architectures, layers)
    total = len(parts) * len(architectures)
    checks = list(tqdm(found, total=total, unit="engine", disable=not sys.stderr.isatty()))
    return CheckReport(
        table=table(checks),
        rows=[dataclasses.asdict(check) for check in checks],
        refusals=list(dict.fromkeys(check.refusal for check in checks if check.refusal)),
    )


def table(checks: Sequence[CheckedPart]) -> str:
    """The checks as a Markdown table."""
    return markdown_table(COLUMNS, (check.cells for check in checks))
