"""Reports the prediction of every arm on a processor, and where amortization pays there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cleave.builders.cut.cut import Cut
from cleave.builders.formatting import byte_quantity, quantity, text_table
from cleave.builders.predict.amortization import BASES, NEARLY, PAYS, STEPS, Amortization, Basis
from cleave.builders.predict.processors import Processor
from cleave.builders.predict.roofline import ArmPrediction, predict
from cleave.builders.spec import Axis

BYTES = {
    "weights": "weight_bytes",
    "activations": "activation_bytes",
    "summary": "summary_bytes",
    "network": "network_bytes",
}
"""The columns of bytes, and what they are called in a prediction."""

TIMES = {"FLOPs": "compute_ms", "memory": "memory_ms", "launches": "launch_ms", "link": "link_ms"}
"""The columns of times that make up a latency, and what they are called in a prediction."""


@dataclass(frozen=True)
class Pays:
    """The least and the most of an axis at which an arm is worth having over a simpler one; None where it never is."""

    arm: str
    over: str
    basis: Basis
    axis: str
    least: int | None
    most: int | None

    def __str__(self) -> str:
        return "none" if self.least is None else f"{self.least:,} to {self.most:,}"


@dataclass(frozen=True)
class RooflineReport:
    """One request of one user at these sizes, and where amortization pays with the other axes there."""

    processor: Processor
    sizes: Mapping[str, int]
    summary_bytes: int
    precision: str
    """The precision of matrix products."""
    arms: Mapping[str, ArmPrediction]
    pays: tuple[Pays, ...]
    most_candidates_before_scorer_dominates: int | None
    """None where the scorer takes longer than the encoder for any number."""
    micro_batch: int
    """The fewest candidates a call that reach `NEARLY` the scorer's best throughput."""
    least_store_bytes_per_s: float | None
    """The least rate of a store at which a kept summary arrives sooner than one encoded anew; None if at none."""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "machine": dataclasses.asdict(self.processor),
            "precision": self.precision,
            "arms": {arm: _arm_dict(prediction) for arm, prediction in self.arms.items()},
            "pays": [dataclasses.asdict(each) for each in self.pays],
            "most_candidates_before_scorer_dominates": self.most_candidates_before_scorer_dominates,
            "micro_batch": self.micro_batch,
            "least_store_bytes_per_s": self.least_store_bytes_per_s,
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        processor = self.processor
        yield f"predicted on {processor.name}" + ("" if processor.measured else "; nothing was run on a GPU")
        yield f"{_peaks_text(processor, self.precision)}: {processor.source}"
        yield ""
        yield text_table(
            ("arm", "latency", *TIMES, "candidates/s", *BYTES),
            [_arm_cells(arm, prediction) for arm, prediction in self.arms.items()],
        )
        uncounted = sorted({name for prediction in self.arms.values() for name in prediction.uncounted})
        if uncounted:
            yield f"not in these figures (unknown operator or shape): {', '.join(uncounted)}"
        yield ""
        yield self._pays_table()
        yield ""
        yield from self._answers()

    def _pays_table(self) -> str:
        """A table with a row for each step and basis, and a column for each axis."""
        rows: dict[str, list[str]] = {}
        for each in self.pays:
            rows.setdefault(f"{each.arm} over {each.over}, {each.basis}", []).append(str(each))
        others = {
            axis: ", ".join(f"{name} {size:,}" for name, size in self.sizes.items() if name != axis)
            for axis in dict.fromkeys(each.axis for each in self.pays)
        }
        return text_table(
            [f"{PAYS:g} times as fast for", *(f"{axis} (at {sizes})" for axis, sizes in others.items())],
            [[title, *cells] for title, cells in rows.items()],
        )

    def _answers(self) -> Iterator[str]:
        most, store = self.most_candidates_before_scorer_dominates, self.least_store_bytes_per_s
        if most is None:
            yield "the scorer takes longer than the encoder for any number of candidates"
        else:
            yield f"the scorer takes longer than the encoder beyond {most:,} candidates"
        yield f"{self.micro_batch:,} candidates a call reach {NEARLY:.0%} of the scorer's best throughput on one stream"
        kept = f"a kept summary of {byte_quantity(self.summary_bytes)}"
        if store is None:
            yield f"{kept} never arrives sooner than one encoded anew"
        else:
            yield f"{kept} arrives sooner than one encoded anew from a store of {quantity(store)}B/s on"


def roofline_report(
    cut: Cut, processor: Processor, sizes: Mapping[str, int], precision: str | None = None
) -> RooflineReport:
    """The report of a cut on a processor.

    Args:
        sizes: of every axis by name.
        precision: of matrix products, the processor's own by default.

    Raises:
        ProcessorError: there is no such precision.
    """
    amortization = Amortization(cut, processor, sizes, precision)
    return RooflineReport(
        processor=processor,
        sizes=dict(sizes),
        summary_bytes=cut.summary_bytes(sizes),
        precision=amortization.precision,
        arms=predict(cut, processor, sizes, precision),
        pays=tuple(
            _pays(amortization, arm, simpler, basis, axis)
            for arm, simpler in STEPS
            for basis in BASES
            for axis in cut.ranker.axes
        ),
        most_candidates_before_scorer_dominates=amortization.balance(),
        micro_batch=amortization.micro_batch(),
        least_store_bytes_per_s=amortization.store_bytes_per_s(),
    )


def _pays(amortization: Amortization, arm: str, simpler: str, basis: Basis, axis: Axis) -> Pays:
    found = amortization.pays(arm, simpler, basis, axis)
    least, most = (None, None) if found is None else (found.least, found.most)
    return Pays(arm, simpler, basis, axis.name, least, most)


def _arm_dict(prediction: ArmPrediction) -> dict[str, Any]:
    fields = dataclasses.asdict(prediction)
    del fields["arm"]
    return fields | {
        "latency_ms": prediction.latency_ms,
        "busy_ms": prediction.busy_ms,
        "candidates_per_s": prediction.candidates_per_s,
    }


def _arm_cells(arm: str, prediction: ArmPrediction) -> list[str]:
    return [
        arm,
        _ms(prediction.latency_ms),
        *(_ms(getattr(prediction.time, part)) for part in TIMES.values()),
        quantity(prediction.candidates_per_s),
        *(byte_quantity(getattr(prediction, column)) for column in BYTES.values()),
    ]


def _peaks_text(processor: Processor, precision: str) -> str:
    peaks = [
        f"{quantity(processor.matrix_flops_per_s[precision])}FLOP/s in {precision} products",
        f"{quantity(processor.vector_flops_per_s)}FLOP/s otherwise",
        f"memory {quantity(processor.memory_bytes_per_s)}B/s",
        f"{processor.launch_us:.2g} us a launch{'' if processor.measured else ' (assumed)'}",
    ]
    if processor.link_bytes_per_s:
        peaks.insert(3, f"PCIe {quantity(processor.link_bytes_per_s)}B/s")
    return ", ".join(peaks)


def _ms(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f} ms"
    if value >= 1:
        return f"{value:.2f} ms"
    return f"{value * 1000:.1f} us" if value else "-"
