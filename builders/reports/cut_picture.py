"""A picture of a cut: which module of a ranker works for the user alone, which for the request, and what crosses."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch

from cleave.builders.cost.flops import Flops
from cleave.builders.cut.cut import Cut
from cleave.builders.formatting import byte_quantity, quantity
from cleave.builders.onnx_graph.operators import operator
from cleave.builders.onnx_graph.scopes import scope_of
from cleave.builders.predict.arms import flops_of_arms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENCODER, ITEMS, SCORER = "history encoder", "item tower", "candidate scorer"
LANES = {ENCODER: "once per user", SCORER: "with each request", ITEMS: "part of the scorer; can be a table"}
"""The columns of boxes, with how often what is in them runs; the summary is a column of its own behind the first."""
COLOURS = {ENCODER: "#d8e8f7", ITEMS: "#e3f1dc", SCORER: "#fbe6d0"}
SUMMARY_COLOUR = "#f6d55c"
NAMED_CHILDREN = 4
"""Submodules with matrix products that a box names; of more it says how many."""
BOX_HEIGHT, BOX_WIDTH, LANE_WIDTH, SUMMARY_WIDTH = 0.72, 2.7, 3.0, 2.6
"""Inches across; a row is one unit high."""
ROW_HEIGHT = 0.75
"""Inches."""


@dataclass(frozen=True)
class Box:
    """What one module does in one part of the cut."""

    module: str
    lane: str
    children: tuple[str, ...]
    """The submodules whose matrix products are here; none where the module's own are all."""
    flops: int


@dataclass(frozen=True)
class Crossing:
    """A summary tensor: the module that makes it, those that read it, and its bytes for one user."""

    name: str
    made_by: str
    read_by: tuple[str, ...]
    num_bytes: int


@dataclass(frozen=True)
class CutPicture:
    """A cut by modules: `modules` in the order in which they are done."""

    title: str
    modules: tuple[str, ...]
    boxes: tuple[Box, ...]
    crossings: tuple[Crossing, ...]

    @staticmethod
    def of(cut: Cut, sizes: Mapping[str, int]) -> CutPicture:
        """The picture of a cut, with FLOPs and bytes of one request of one user of these sizes."""
        crossings = tuple(_crossings(cut, sizes))
        ends = {module for crossing in crossings for module in (crossing.made_by, *crossing.read_by)}
        boxes = tuple(box for box in _boxes(cut, sizes) if box.flops or box.module in ends)
        drawn = {box.module for box in boxes}
        last_run = {_module_of(cut, node): place for place, node in enumerate(cut.analysis.model.graph.node)}
        arms = flops_of_arms(cut, sizes)
        at = ", ".join(f"{axis} {size:,}" for axis, size in sizes.items())
        title = (
            f"{cut.ranker.name} ({at}): {quantity(arms['uncached'] - arms['cached'])}FLOPs once per user, "
            f"{quantity(arms['cached'])}FLOPs with each request, {byte_quantity(cut.summary_bytes(sizes))} kept"
        )
        modules = tuple(sorted(drawn, key=last_run.__getitem__))
        return CutPicture(title, modules, boxes, crossings)


def _boxes(cut: Cut, sizes: Mapping[str, int]) -> Iterator[Box]:
    for lane, nodes in _nodes_of_lanes(cut).items():
        modules: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            modules.setdefault(_module_of(cut, node), []).append(node)
        for module, own in modules.items():
            products = [scope_of(node) for node in own if operator(node.op_type).is_product]
            children = dict.fromkeys(
                name.removeprefix(f"{module}.").split(".")[0] for name in products if name != module
            )
            yield Box(module, lane, tuple(children), Flops.of(own, cut.analysis.probe).at(sizes))


def _nodes_of_lanes(cut: Cut) -> dict[str, list[onnx.NodeProto]]:
    """The nodes of the analyzed graph in each part; one that is repeated on both sides is in both."""
    labels = cut.analysis.labels
    encoder, scorer = ({node.name for node in part.graph.node} for part in (cut.history_encoder, cut.candidate_scorer))
    lanes: dict[str, list[onnx.NodeProto]] = {lane: [] for lane in LANES}
    for node in cut.analysis.model.graph.node:
        roles = labels.roles_in_effect(labels.of(node.output[0]))
        if node.name in encoder:
            lanes[ENCODER].append(node)
        if node.name in scorer:
            lanes[ITEMS if roles == {"candidate"} else SCORER].append(node)
    return lanes


def _crossings(cut: Cut, sizes: Mapping[str, int]) -> Iterator[Crossing]:
    nodes = cut.analysis.model.graph.node
    makers, known = {name: node for node in nodes for name in node.output}, {node.name for node in nodes}
    for tensor in cut.summary:
        # Nodes that are not of the model read sizes off a summary tensor, not its values.
        readers = [node for node in cut.candidate_scorer.graph.node if tensor.name in node.input and node.name in known]
        made_by = _module_of(cut, makers[tensor.source]) if tensor.source in makers else ""
        read_by = dict.fromkeys(_module_of(cut, node) for node in readers)
        yield Crossing(tensor.name, made_by, tuple(read_by), tensor.bytes_at(sizes))


def _module_of(cut: Cut, node: onnx.NodeProto) -> str:
    """The module that a row stands for: a layer of a `ModuleList` (`blocks.0`), else the outermost."""
    path = scope_of(node).split(".")
    lists = (place for place in range(1, len(path)) if ".".join(path[:place]) in _module_lists(cut.ranker.module))
    return ".".join(path[: next(lists, 0) + 1])


@functools.lru_cache(maxsize=1)
def _module_lists(module: torch.nn.Module) -> frozenset[str]:
    return frozenset(name for name, part in module.named_modules() if isinstance(part, torch.nn.ModuleList))


def write_cut_picture(picture: CutPicture, file: Path) -> None:
    """Draw the picture; the ending of the file says how (`.svg`, `.png`, `.pdf`)."""
    import matplotlib  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    lanes = [lane for lane in LANES if any(box.lane == lane for box in picture.boxes)]
    width, height = LANE_WIDTH * len(lanes) + SUMMARY_WIDTH + 1.4, len(picture.modules) + 0.9
    with matplotlib.rc_context({"svg.hashsalt": "cleave", "svg.fonttype": "none", "font.size": 9.0}):
        figure = Figure(figsize=(width, ROW_HEIGHT * height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(-1.4, width - 1.4)
        axes.set_ylim(1.4 - height, 1.4)
        axes.axis("off")
        axes.text(-1.3, 1.1, picture.title, fontsize=11, fontweight="bold", va="center")
        left = dict(zip(lanes, _lefts(len(lanes)), strict=True))
        for lane, start in left.items():
            _head(axes, start + BOX_WIDTH / 2, lane, LANES[lane])
        _head(axes, LANE_WIDTH + SUMMARY_WIDTH / 2 - 0.15, "summary", "kept in the cache")
        rows = {module: -float(row) for row, module in enumerate(picture.modules)}
        for module, y in rows.items():
            axes.text(-1.3, y, "(top)" if module == "model" else module, va="center", family="monospace", fontsize=8)
        for box in picture.boxes:
            _draw_box(axes, box, left[box.lane], rows[box.module])
        _draw_crossings(axes, picture, left, rows)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, facecolor="white", metadata={"Date": None} if file.suffix == ".svg" else None)


def _lefts(count: int) -> list[float]:
    """Where each lane begins: the summary is between the first and the second."""
    return [0.0, *(LANE_WIDTH * place + SUMMARY_WIDTH for place in range(1, count))]


def _head(axes: Axes, x: float, name: str, how_often: str) -> None:
    axes.text(x, 0.72, name, ha="center", va="center", fontweight="bold")
    axes.text(x, 0.5, how_often, ha="center", va="center", fontsize=8, color="#555555")


def _draw_box(axes: Axes, box: Box, left: float, y: float) -> None:
    _rounded(axes, left, y, BOX_WIDTH, BOX_HEIGHT, COLOURS[box.lane])
    shown, more = box.children[:NAMED_CHILDREN], len(box.children) - NAMED_CHILDREN
    children = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    axes.text(
        left + BOX_WIDTH / 2, y + (0.12 if children else 0), f"{quantity(box.flops)}FLOPs", ha="center", va="center"
    )
    if children:
        axes.text(left + BOX_WIDTH / 2, y - 0.14, children, ha="center", va="center", fontsize=7, color="#444444")


def _rounded(axes: Axes, left: float, y: float, width: float, height: float, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415 - slow to import

    axes.add_patch(
        FancyBboxPatch(
            (left + 0.05, y - height / 2 + 0.05),
            width - 0.1,
            height - 0.1,
            boxstyle="round,pad=0.05",
            facecolor=colour,
            edgecolor="#666666",
            linewidth=0.8,
        )
    )


def _draw_crossings(axes: Axes, picture: CutPicture, left: Mapping[str, float], rows: Mapping[str, float]) -> None:
    """Each summary tensor beside the module that makes it, with arrows from there and to the modules that read it."""
    together: dict[str, list[Crossing]] = {}
    for crossing in picture.crossings:
        together.setdefault(crossing.made_by, []).append(crossing)
    start, width = LANE_WIDTH, SUMMARY_WIDTH - 0.3
    places = {(box.module, box.lane) for box in picture.boxes}
    for made_by, crossings in together.items():
        y = rows.get(made_by, 0.0)
        height = min(BOX_HEIGHT, 0.24 * len(crossings))
        for place, crossing in enumerate(crossings):
            at = y + height / 2 - (place + 0.5) * height / len(crossings)
            _rounded(axes, start, at, width, height / len(crossings), SUMMARY_COLOUR)
            text = f"{crossing.name}  {byte_quantity(crossing.num_bytes)}"
            axes.text(start + width / 2, at, text, ha="center", va="center", fontsize=6.5, family="monospace")
            for reader in crossing.read_by:
                lane = SCORER if (reader, SCORER) in places else ITEMS
                if lane in left and reader in rows:
                    _arrow(axes, (start + width, at), (left[lane], rows[reader]))
        if (made_by, ENCODER) in places:
            _arrow(axes, (BOX_WIDTH, y), (start, y))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": "#444444", "linewidth": 0.9})
