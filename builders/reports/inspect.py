"""Reports what the cut of a ranker moves, keeps and leaves, for people and for machines; nothing is built for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cleave.builders.cost.flops import weight_bytes
from cleave.builders.cut.cut import Cut, Mix
from cleave.builders.cut.item_table import ItemTableError, id_tensor, split_item_tower
from cleave.builders.cut.subgraph import ExtractError
from cleave.builders.cut.summary import SummaryTensor
from cleave.builders.formatting import byte_quantity, quantity, text_table
from cleave.builders.names import BATCH, CANDIDATE_SCORER, HISTORY_ENCODER, WHOLE
from cleave.builders.predict.arms import BASELINE, flops_of_arms, ratios

LITTLE = 0.01
"""Below this share of the FLOPs in the encoder, a cut saves next to nothing."""

ITEM_TOWER = "item_tower"
"""The work of the candidate scorer that depends on the candidates alone; it is counted apart here."""

DEPENDS_ON = {HISTORY_ENCODER: "the user alone", ITEM_TOWER: "the item alone", CANDIDATE_SCORER: "both"}


@dataclass(frozen=True)
class KeptTensor:
    """One tensor of the summary."""

    name: str
    shape: tuple[int, ...]
    """The shape for one user, at the sizes of the report."""
    axes: tuple[str, ...]
    """The shape in words: the name of an axis, a fixed size, or a sum of these."""
    dtype: str


@dataclass(frozen=True)
class ItemTableReport:
    """What `cleave build --catalogue` would save with each request, and what its table takes."""

    saved_flops: int
    saved_share_of_cached: float
    """The share in the FLOPs of a request whose summary is kept."""
    bytes_per_item: int
    items: int | None
    """The number of ids that the model knows; None where no table tells it."""
    bytes: int | None
    """The size of a table of all of them."""

    def __str__(self) -> str:
        rows = ""
        if self.bytes is not None and self.items is not None:
            rows = f", {byte_quantity(self.bytes)} for {self.items:,} items"
        return (
            f"item table (build --catalogue): would save {quantity(self.saved_flops)}FLOPs a request, "
            f"{self.saved_share_of_cached:.1%} of cached; {byte_quantity(self.bytes_per_item)} an item{rows}"
        )


@dataclass(frozen=True)
class InspectReport:
    """FLOPs and bytes of one request of one user at these sizes."""

    model: str
    sizes: Mapping[str, int]
    flops: Mapping[str, int]
    """The FLOPs of the whole model and of each part, with the item tower apart from the candidate scorer."""
    uncounted_nodes: tuple[str, ...]
    """The nodes of an unknown operator or shape; their work is in no figure."""
    weight_bytes: Mapping[str, int]
    """The bytes of all weights of the whole model and of each part."""
    summary: tuple[KeptTensor, ...]
    summary_bytes: int
    arm_flops: Mapping[str, int]
    ratio: Mapping[str, float | None]
    """The FLOPs of the baseline over those of each other arm; None for an arm that has none."""
    first_mix: Mix | None
    item_table: ItemTableReport | None
    """None where the item tower cannot be moved to build time."""
    little_to_move: bool
    weights: str | None
    """Where the weights of the model come from; None where it was not asked for."""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return "\n\n".join(self._sections())

    def _sections(self) -> Iterator[str]:
        at = ", ".join(f"{axis} {size:,}" for axis, size in self.sizes.items())
        yield f"{self.model}, one request of one user: {at}"
        yield self._parts()
        yield text_table(
            ("arm", "FLOPs", f"times fewer than {BASELINE}"),
            [(arm, quantity(count), _ratio_text(self.ratio.get(arm, 1.0))) for arm, count in self.arm_flops.items()],
        )
        yield f"summary: {byte_quantity(self.summary_bytes)} a user"
        kept = [(tensor.name, tensor.dtype, f"[{', '.join(tensor.axes)}]") for tensor in self.summary]
        yield text_table(("tensor", "dtype", "shape"), kept, "lll")
        if self.item_table:
            yield str(self.item_table)
        if self.little_to_move or self.first_mix:
            yield "\n".join(self._mixing())
        if self.uncounted_nodes:
            yield f"not counted (unknown operator or shape): {', '.join(self.uncounted_nodes)}"
        if self.weights:
            yield f"weights: {self.weights}"

    def _parts(self) -> str:
        total = max(1, sum(self.flops[part] for part in DEPENDS_ON))
        rows = [
            (part, quantity(self.flops[part]), f"{self.flops[part] / total:.1%}", depends)
            for part, depends in DEPENDS_ON.items()
        ]
        whole = ("whole model", quantity(self.flops[WHOLE]), "", "")
        return text_table(("part", "FLOPs", "share", "depends on"), [*rows, whole], "lrrl")

    def _mixing(self) -> Iterator[str]:
        if self.little_to_move:
            share = _encoder_share(self.flops, self.arm_flops)
            yield f"Almost nothing can be moved: {share:.2%} of the FLOPs depend on the user alone."
        if mix := self.first_mix:
            yield (
                f"User and candidate mix first in {mix.node} ({mix.op} of module {mix.module!r}): it joins what "
                f"is made of {', '.join(mix.user_inputs)} with what is made of {', '.join(mix.candidate_inputs)}."
            )
        if self.little_to_move:
            yield "Work after that node runs once per candidate; to amortize it, mix later (see the model append)."


def inspect_report(cut: Cut, sizes: Mapping[str, int], weights: str | None = None) -> InspectReport:
    """The report of a cut.

    Args:
        sizes: of every axis by name.
        weights: where they come from, in words.
    """
    flops, arm_flops = _flops(cut, sizes), flops_of_arms(cut, sizes)
    return InspectReport(
        model=cut.ranker.name,
        sizes=dict(sizes),
        flops=flops,
        uncounted_nodes=tuple(sorted({name for part in cut.flops.values() for name in part.uncounted})),
        weight_bytes={name: weight_bytes(part.graph) for name, part in cut.parts.items()},
        summary=tuple(_kept(tensor, sizes) for tensor in cut.summary),
        summary_bytes=cut.summary_bytes(sizes),
        arm_flops=arm_flops,
        ratio={arm: ratio if math.isfinite(ratio) else None for arm, ratio in ratios(arm_flops).items()},
        first_mix=cut.first_mix,
        item_table=_item_table(cut, sizes, arm_flops["cached"]),
        little_to_move=not cut.flops[HISTORY_ENCODER].uncounted and _encoder_share(flops, arm_flops) < LITTLE,
        weights=weights,
    )


def _flops(cut: Cut, sizes: Mapping[str, int]) -> dict[str, int]:
    flops, items = {}, cut.item_tower.at(sizes)
    for name, count in cut.flops.items():
        if name == CANDIDATE_SCORER:
            flops[ITEM_TOWER] = items
        flops[name] = count.at(sizes) - (items if name == CANDIDATE_SCORER else 0)
    return flops


def _kept(tensor: SummaryTensor, sizes: Mapping[str, int]) -> KeptTensor:
    dims = tensor.dims[1:]
    shape = tuple(size.at({BATCH: 1, **sizes}) for size in dims)
    return KeptTensor(tensor.name, shape, tuple(str(size) for size in dims), tensor.dtype)


def _item_table(cut: Cut, sizes: Mapping[str, int], cached_flops: int) -> ItemTableReport | None:
    try:
        ids, tower = id_tensor(cut.ranker), split_item_tower(cut)
    except (ExtractError, ItemTableError):
        return None
    saved, num_items = cut.item_tower.at(sizes), None if ids.high is None else int(ids.high)
    return ItemTableReport(
        saved_flops=saved,
        saved_share_of_cached=saved / max(1, cached_flops),
        bytes_per_item=tower.bytes_per_item,
        items=num_items,
        bytes=None if num_items is None else num_items * tower.bytes_per_item,
    )


def _ratio_text(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2f}x"


def _encoder_share(flops: Mapping[str, int], arm_flops: Mapping[str, int]) -> float:
    """The share of the encoder in the work of a request whose summary is not kept."""
    uncached = arm_flops["uncached"]
    return flops[HISTORY_ENCODER] / uncached if uncached else 0.0
