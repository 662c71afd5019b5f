"""The prediction of every arm on a processor, and where amortization pays there, for people and for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from cleave.builders.cut.cut import Cut
from cleave.builders.predict.amortization import BASES, NEARLY, PAYS, STEPS, Amortization, Range
from cleave.builders.predict.processors import Processor
from cleave.builders.predict.roofline import predict
from cleave.builders.reports.inspect import byte_quantity, quantity

BYTES = {
    "weights": "weight_bytes",
    "activations": "activation_bytes",
    "summary": "summary_bytes",
    "network": "network_bytes",
}
"""The columns of bytes, and what they are called in a prediction."""


def roofline_dict(
    cut: Cut, processor: Processor, sizes: Mapping[str, int], precision: str | None = None
) -> dict[str, Any]:
    """As JSON."""
    answers = Amortization(cut, processor, sizes, precision)
    arms = predict(cut, processor, sizes, precision)
    return {
        "machine": dataclasses.asdict(processor),
        "precision": answers.precision,
        "arms": {
            arm: {
                **{key: value for key, value in dataclasses.asdict(prediction).items() if key != "arm"},
                "latency_ms": prediction.latency_ms,
                "busy_ms": prediction.busy_ms,
                "candidates_per_s": prediction.candidates_per_s,
            }
            for arm, prediction in arms.items()
        },
        "pays": [
            {"arm": arm, "over": simpler, "basis": basis, "axis": axis.name, **_range_dict(found)}
            for arm, simpler in STEPS
            for basis in BASES
            for axis in cut.ranker.axes
            for found in [answers.pays(arm, simpler, basis, axis)]
        ],
        "most_candidates_before_scorer_dominates": answers.balance(),
        "micro_batch": answers.micro_batch(),
        "least_store_bytes_per_s": answers.store_bytes_per_s(),
    }


def _range_dict(found: Range | None) -> dict[str, int | None]:
    return {"least": None, "most": None} if found is None else dataclasses.asdict(found)


def roofline_text(cut: Cut, processor: Processor, sizes: Mapping[str, int], precision: str | None = None) -> str:
    """For people."""
    report = roofline_dict(cut, processor, sizes, precision)
    lines = [
        f"predicted on {processor.name}" + ("" if processor.measured else "; nothing was run on a GPU"),
        f"{_peaks_text(processor, report['precision'])}: {processor.source}",
        "",
        f"{'arm':<14}{'latency':>12}{'FLOPs':>10}{'memory':>10}{'launches':>10}{'link':>10}{'candidates/s':>14}"
        + "".join(f"{kind:>13}" for kind in BYTES),
    ]
    for arm, row in report["arms"].items():
        times = (row["time"][part] for part in ("compute_ms", "memory_ms", "launch_ms", "link_ms"))
        lines.append(
            f"{arm:<14}{_ms(row['latency_ms']):>12}"
            + "".join(f"{_ms(time):>10}" for time in times)
            + f"{quantity(row['candidates_per_s']):>14}"
            + "".join(f"{byte_quantity(row[key]):>13}" for key in BYTES.values())
        )
    uncounted = sorted({name for row in report["arms"].values() for name in row["uncounted"]})
    if uncounted:
        lines.append(f"not in these figures (unknown operator or shape): {', '.join(uncounted)}")
    return "\n".join([*lines, "", *_pays_lines(cut, report, sizes), *_other_lines(cut, report, sizes)])


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


def _pays_lines(cut: Cut, report: Mapping[str, Any], sizes: Mapping[str, int]) -> list[str]:
    """A row for each step and basis, a column for each axis."""
    axes = [axis.name for axis in cut.ranker.axes]
    heads = [f"{axis} (at {_others(axis, sizes)})" for axis in axes]
    lines = [f"{f'{PAYS:g} times as fast for':<44}" + "".join(f"{head:>32}" for head in heads)]
    found = {(row["arm"], row["over"], row["basis"], row["axis"]): row for row in report["pays"]}
    for arm, simpler in STEPS:
        for basis in BASES:
            cells = [_range_text(found[arm, simpler, basis, axis]) for axis in axes]
            title = f"{arm} over {simpler}, {basis}"
            lines.append(f"{title:<44}" + "".join(f"{cell:>32}" for cell in cells))
    return lines


def _others(axis: str, sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size:,}" for name, size in sizes.items() if name != axis)


def _range_text(row: Mapping[str, Any]) -> str:
    return "none" if row["least"] is None else f"{row['least']:,} to {row['most']:,}"


def _other_lines(cut: Cut, report: Mapping[str, Any], sizes: Mapping[str, int]) -> list[str]:
    most, store = report["most_candidates_before_scorer_dominates"], report["least_store_bytes_per_s"]
    kept = f"a kept summary of {byte_quantity(cut.summary_bytes(sizes))}"
    return [
        "the scorer takes longer than the encoder for any number of candidates"
        if most is None
        else f"the scorer takes longer than the encoder beyond {most:,} candidates",
        f"{report['micro_batch']:,} candidates a call reach {NEARLY:.0%} of the scorer's best throughput on one stream",
        f"{kept} never arrives sooner than one encoded anew"
        if store is None
        else f"{kept} arrives sooner than one encoded anew from a store of {quantity(store)}B/s on",
    ]


def _ms(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f} ms"
    if value >= 1:
        return f"{value:.2f} ms"
    return f"{value * 1000:.1f} us" if value else "-"
