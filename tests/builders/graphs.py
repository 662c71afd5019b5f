"""Graphs written by hand, and the ranker that they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from cleave.builders import Axis, Ranker, Tensor
from cleave.builders.cut.cut import Cut
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.cut.labels import Labels
from cleave.builders.export.torch_export import OPSET
from cleave.builders.onnx_graph.probe import Probe, probe
from cleave.builders.onnx_graph.random_inputs import Arrays, draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner

WIDTH = 4
NUM_IDS = 10
HISTORY = Axis("history", min=1, opt=6, max=12)
CANDIDATES = Axis("candidates", min=1, opt=5, max=12)
INPUTS = (
    "int64[batch,history] ids, float[batch,history,4] events, float[batch,4] profile, "
    "float[batch,4] hour, int64[batch,candidates] items, float[batch,candidates,4] features"
)
"""The inputs of every graph here, as ONNX writes them; what is not needed is not read."""


class Modules(nn.Module):
    """Submodules by name, for rankers whose boundary names one; nobody calls them."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Identity())


def ranker(boundary: tuple[str, ...] = ()) -> Ranker:
    return Ranker(
        name="small",
        module=Modules(*boundary),
        user=(
            Tensor("ids", "int64", (HISTORY,), high=NUM_IDS),
            Tensor("events", "float32", (HISTORY, WIDTH)),
            Tensor("profile", "float32", (WIDTH,)),
        ),
        request=(Tensor("hour", "float32", (WIDTH,)),),
        candidate=(
            Tensor("items", "int64", (CANDIDATES,), high=NUM_IDS),
            Tensor("features", "float32", (CANDIDATES, WIDTH)),
        ),
        output=(Tensor("scores", "float32", (CANDIDATES,)),),
        boundary=boundary,
    )


def graph(body: str, **weights: NDArray[Any] | list[int]) -> onnx.ModelProto:
    """A model of `INPUTS` to scores: a line of `body` is a node, `[module] y = Op(x)` one of a named module.

    `w`, `table` and constants named by their values (`zero`, `one`, `two`, `last`) are there without being given.
    """
    given: dict[str, Any] = {
        "w": np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32),
        "table": np.random.default_rng(1).standard_normal((NUM_IDS, WIDTH)).astype(np.float32),
        "zero": np.array([0]),
        "one": np.array([1]),
        "minus_two": np.array([-2]),
        "two": np.array([2]),
        "last": np.array([-1]),
        "end": np.array([np.iinfo(np.int64).max]),
        **weights,
    }
    header = f'<ir_version: 10, opset_import: ["": {OPSET}]>'
    signature = f"graph ({INPUTS}) => (float[batch,candidates] scores)"
    model: onnx.ModelProto = onnx.parser.parse_model(f"{header} {signature} {{ {body} }}")
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in given.items() if name in read
    )
    for place, node in enumerate(model.graph.node):
        node.name = f"{node.name or 'model'}/{node.op_type}_{place}"
    onnx.checker.check_model(model, full_check=True)
    return model


def analyzed(model: onnx.ModelProto) -> tuple[Probe, Labels]:
    known = probe(model, ranker())
    return known, Labels(model, ranker(), known)


def draw(batch: int, history: int, candidates: int, seed: int = 0) -> Arrays:
    sizes = {"history": history, "candidates": candidates}
    return draw_inputs(ranker(), sizes, batch, np.random.default_rng(seed))


def assert_parts_equal_whole(cut: Cut) -> None:
    parts, whole = EncoderThenScorer(cut), OnnxRunner(cut.whole)
    for sizes in ((1, 1, 1), (3, 7, 5), (2, 12, 4)):
        inputs = draw(*sizes)
        for name, expected in whole(inputs).items():
            np.testing.assert_allclose(parts(inputs)[name], expected, rtol=1e-5, atol=1e-5)


def assert_equal_graphs(left: onnx.ModelProto, right: onnx.ModelProto) -> None:
    run_left, run_right = OnnxRunner(left), OnnxRunner(right)
    for sizes in ((1, 1, 1), (3, 7, 5), (2, 12, 4)):
        inputs = draw(*sizes)
        for name, expected in run_left(inputs).items():
            np.testing.assert_allclose(run_right(inputs)[name], expected, rtol=1e-5, atol=1e-5)


def ops(model: onnx.ModelProto) -> list[str]:
    return sorted(node.op_type for node in model.graph.node)
