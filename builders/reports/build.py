"""What a build says of itself, for people and for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cleave.builders.contract.engine_record import EngineRecord
from cleave.builders.contract.proof import Proof
from cleave.builders.formatting import byte_quantity
from cleave.builders.pipeline import Build, Narrowed
from cleave.builders.targets.target import BuiltEngine


@dataclass(frozen=True)
class EngineReport:
    """The size of an engine and what its manifest says of it."""

    num_bytes: int
    record: EngineRecord

    def __str__(self) -> str:
        needs, record = self.record.activation_bytes, self.record
        return (
            f"{byte_quantity(self.num_bytes)}, {len(record.profiles)} profiles, "
            f"{record.fused_attentions} of {record.attentions} attentions fused, "
            f"{'unknown memory' if needs is None else byte_quantity(needs)} to run, "
            f"TensorRT {record.tensorrt}, compute capability {record.compute_capability}"
        )


@dataclass(frozen=True)
class BuildReport:
    """What was proven, what fewer bits cost, and what lies in the repository."""

    ranker: str
    fingerprint: str
    repository: str
    models: tuple[str, ...]
    proof: Proof
    weights: str
    """Where they come from."""
    num_table_items: int | None
    """Of the item table; None without one."""
    narrowed: Narrowed | None
    """None for a build of float32."""
    engines: Mapping[str, EngineReport]
    """By model."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from self.proof.lines()
        yield f"weights: {self.weights}"
        if self.num_table_items is not None:
            yield f"item table: {self.num_table_items:,} items, scores as without it"
        if narrowed := self.narrowed:
            wide, kept = (byte_quantity(count) for count in narrowed.summary_bytes)
            yield f"summary: {kept} a user instead of {wide}; largest score difference {narrowed.score_difference:.2g}"
            if narrowed.test_auc:
                before, after = narrowed.test_auc
                yield f"test AUC: {after:.5f} instead of {before:.5f}, a change of {after - before:+.5f}"
        for model, engine in self.engines.items():
            yield f"engine: {model}: {engine}"
        yield f"built {self.ranker} {self.fingerprint[:12]} in {self.repository}: {', '.join(self.models)}"


def build_report(
    built: Build, engines: Mapping[str, BuiltEngine], fingerprint: str, repository: Path, models: Sequence[str]
) -> BuildReport:
    """The report of a build that was written to `repository` as these models."""
    return BuildReport(
        ranker=built.cut.ranker.name,
        fingerprint=fingerprint,
        repository=str(repository),
        models=tuple(models),
        proof=built.proof,
        weights=built.weights,
        num_table_items=built.num_table_items,
        narrowed=built.narrowed,
        engines={model: EngineReport(len(engine.engine), engine.record) for model, engine in engines.items()},
    )
