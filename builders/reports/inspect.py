"""The amortization report: what the cut of a ranker moves, keeps and leaves, without building anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cleave.builders.cost.flops import weight_bytes
from cleave.builders.cut.cut import Cut
from cleave.builders.cut.item_table import ItemTableError, id_tensor, split_item_tower
from cleave.builders.cut.subgraph import ExtractError
from cleave.builders.formatting import byte_quantity, quantity, text_table
from cleave.builders.names import CANDIDATE_SCORER, HISTORY_ENCODER
from cleave.builders.predict.arms import flops_of_arms, ratios

LITTLE = 0.01
"""Below this share of the FLOPs in the encoder, a cut saves next to nothing."""


def report_dict(cut: Cut, sizes: Mapping[str, int]) -> dict[str, Any]:
    """The report as JSON: FLOPs, bytes and ratios at these sizes."""
    flops = flops_of_arms(cut, sizes)
    return {
        "model": cut.ranker.name,
        "sizes": dict(sizes),
        "flops": _flops(cut, sizes),
        "uncounted_nodes": sorted({name for flops in cut.flops.values() for name in flops.uncounted}),
        "weight_bytes": {name: weight_bytes(part.graph) for name, part in cut.parts.items()},
        "summary": [
            {
                "name": tensor.name,
                "shape": [size.at({"batch": 1, **sizes}) for size in tensor.dims[1:]],
                "axes": [str(size) for size in tensor.dims[1:]],
                "dtype": tensor.dtype,
            }
            for tensor in cut.summary
        ],
        "summary_bytes": cut.summary_bytes(sizes),
        "arm_flops": flops,
        "ratio": {arm: ratio if math.isfinite(ratio) else None for arm, ratio in ratios(flops).items()},
        "first_mix": None
        if cut.first_mix is None
        else {
            "node": cut.first_mix.node,
            "op": cut.first_mix.op,
            "module": cut.first_mix.module,
            "user_inputs": list(cut.first_mix.user_inputs),
            "candidate_inputs": list(cut.first_mix.candidate_inputs),
        },
        "item_table": _item_table(cut, sizes),
        "little_to_move": not cut.flops[HISTORY_ENCODER].uncounted and _encoder_share(cut, sizes) < LITTLE,
    }


def _flops(cut: Cut, sizes: Mapping[str, int]) -> dict[str, int]:
    """Of each part, with the item tower apart from the scorer."""
    flops = {name: count.at(sizes) for name, count in cut.flops.items()}
    items = cut.item_tower.at(sizes)
    return {**flops, "item_tower": items, CANDIDATE_SCORER: flops[CANDIDATE_SCORER] - items}


def _item_table(cut: Cut, sizes: Mapping[str, int]) -> dict[str, Any] | None:
    """What `cleave build --catalogue` would save with each request, and what a row of its table takes."""
    try:
        ids, tower = id_tensor(cut.ranker), split_item_tower(cut)
    except (ExtractError, ItemTableError):
        return None
    return {
        "saved_flops": cut.item_tower.at(sizes),
        "saved_share_of_cached": cut.item_tower.at(sizes) / max(1, flops_of_arms(cut, sizes)["cached"]),
        "bytes_per_item": tower.bytes_per_item,
        "items": ids.high,
        "bytes": None if ids.high is None else ids.high * tower.bytes_per_item,
    }


def report_text(cut: Cut, sizes: Mapping[str, int]) -> str:
    """The report for people."""
    report = report_dict(cut, sizes)
    at = ", ".join(f"{axis} {size:,}" for axis, size in sizes.items())
    flops = report["flops"]
    parts = flops["history_encoder"] + flops["item_tower"] + flops["candidate_scorer"]
    whose = {"history_encoder": "the user alone", "item_tower": "the item alone", "candidate_scorer": "both"}
    of_parts = [
        (part, quantity(flops[part]), f"{flops[part] / max(1, parts):.1%}", depends) for part, depends in whose.items()
    ]
    of_arms = [
        (arm, quantity(count), _ratio_text(report["ratio"].get(arm, 1.0))) for arm, count in report["arm_flops"].items()
    ]
    kept = [(tensor["name"], tensor["dtype"], f"[{', '.join(tensor['axes'])}]") for tensor in report["summary"]]
    lines = [
        f"{cut.ranker.name}, one request of one user: {at}",
        "",
        text_table(
            ("part", "FLOPs", "share", "depends on"),
            [*of_parts, ("whole model", quantity(flops["whole"]), "", "")],
            "lrrl",
        ),
        "",
        text_table(("arm", "FLOPs", "times fewer than per_candidate"), of_arms),
        "",
        f"summary: {byte_quantity(report['summary_bytes'])} a user",
        "",
        text_table(("tensor", "dtype", "shape"), kept, "lll"),
    ]
    if table := report["item_table"]:
        rows = "" if table["bytes"] is None else f", {byte_quantity(table['bytes'])} for {table['items']:,} items"
        lines += [
            "",
            f"item table (build --catalogue): would save {quantity(table['saved_flops'])}FLOPs a request, "
            f"{table['saved_share_of_cached']:.1%} of cached; {byte_quantity(table['bytes_per_item'])} an item{rows}",
        ]
    lines += ["", *_mix_lines(report, _encoder_share(cut, sizes))]
    if report["uncounted_nodes"]:
        lines += ["", f"not counted (unknown operator or shape): {', '.join(report['uncounted_nodes'])}"]
    return "\n".join(lines)


def _ratio_text(ratio: float | None) -> str:
    """Of an arm without FLOPs there is no ratio."""
    if ratio is None:
        return "-"
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2f}x"


def _mix_lines(report: Mapping[str, Any], share: float) -> list[str]:
    lines = []
    if report["little_to_move"]:
        lines.append(f"Almost nothing can be moved: {share:.2%} of the FLOPs depend on the user alone.")
    if mix := report["first_mix"]:
        lines.append(
            f"User and candidate mix first in {mix['node']} ({mix['op']} of module {mix['module']!r}): it joins what "
            f"is made of {', '.join(mix['user_inputs'])} with what is made of {', '.join(mix['candidate_inputs'])}."
        )
    if report["little_to_move"]:
        lines.append("Work after that node runs once per candidate; to amortize it, mix later (see the model append).")
    return lines


def _encoder_share(cut: Cut, sizes: Mapping[str, int]) -> float:
    uncached = flops_of_arms(cut, sizes)["uncached"]
    return cut.flops[HISTORY_ENCODER].at(sizes) / uncached if uncached else 0.0
