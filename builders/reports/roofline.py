"""The prediction of every arm on a processor, and where amortization pays there, for people and for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from cleave.builders.cut.cut import Cut
from cleave.builders.formatting import byte_quantity, quantity, text_table
from cleave.builders.predict.amortization import BASES, NEARLY, PAYS, STEPS, Amortization, Range
from cleave.builders.predict.processors import Processor
from cleave.builders.predict.roofline import predict

BYTES = {
    "weights": "weight_bytes",
    "activations": "activation_bytes",
    "summary": "summary_bytes",
    "network": "network_bytes",
}
"""The columns of bytes, and what they are called in a prediction."""

TIMES = {"FLOPs": "compute_ms", "memory": "memory_ms", "launches": "launch_ms", "link": "link_ms"}
"""The columns of times that make up a latency, and what they are called in a prediction."""


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
        text_table(
            ("arm", "latency", *TIMES, "candidates/s", *BYTES),
            [_arm_cells(arm, row) for arm, row in report["arms"].items()],
        ),
    ]
    uncounted = sorted({name for row in report["arms"].values() for name in row["uncounted"]})
    if uncounted:
        lines.append(f"not in these figures (unknown operator or shape): {', '.join(uncounted)}")
    return "\n".join([*lines, "", _pays_table(cut, report, sizes), "", *_other_lines(cut, report, sizes)])


def _arm_cells(arm: str, row: Mapping[str, Any]) -> list[str]:
    return [
        arm,
        _ms(row["latency_ms"]),
        *(_ms(row["time"][part]) for part in TIMES.values()),
        quantity(row["candidates_per_s"]),
        *(byte_quantity(row[key]) for key in BYTES.values()),
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


def _pays_table(cut: Cut, report: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    """A row for each step and basis, a column for each axis."""
    axes = [axis.name for axis in cut.ranker.axes]
    found = {(row["arm"], row["over"], row["basis"], row["axis"]): row for row in report["pays"]}
    return text_table(
        [f"{PAYS:g} times as fast for", *(f"{axis} (at {_others(axis, sizes)})" for axis in axes)],
        [
            [f"{arm} over {simpler}, {basis}", *(_range_text(found[arm, simpler, basis, axis]) for axis in axes)]
            for arm, simpler in STEPS
            for basis in BASES
        ],
    )


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
