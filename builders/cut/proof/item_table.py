"""Proves that an item table changes no score."""

from __future__ import annotations

import numpy as np

from cleave.builders.cut.cut import Cut
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.cut.item_table import id_tensor
from cleave.builders.cut.proof.agreement import Referee
from cleave.builders.onnx_graph.random_inputs import Arrays, draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner


def check_item_table(cut: Cut, items: Arrays, referee: Referee, seed: int = 0) -> None:
    """Check that a scorer with an item table scores as the whole model does: known items, unknown ones, and both.

    Args:
        cut: with the table in its scorer.
        items: the catalogue, every candidate input by name, `[items, ...]`.
        referee: of the cut.

    Raises:
        ParityError: a score differs.
    """
    ranker, rng = cut.ranker, np.random.default_rng(seed)
    whole, parts = OnnxRunner(cut.whole), EncoderThenScorer(cut)
    count = len(next(iter(items.values())))
    sizes = ranker.sizes("opt")
    shape = (2, sizes[ranker.candidate_axis.name])
    for share in (1.0, 0.5, 0.0):
        inputs = draw_inputs(ranker, sizes, shape[0], rng, padded=True)
        known = rng.random(shape) < share
        rows = rng.integers(0, count, shape)
        for name, values in items.items():
            drawn = inputs[name]
            if name == id_tensor(ranker).name:
                drawn = np.asarray(int(values.max()) + 1 + rng.integers(0, count, shape), drawn.dtype)
            chosen = known.reshape(*shape, *[1] * (drawn.ndim - 2))
            inputs[name] = np.where(chosen, values[rows], drawn)
        referee.check(
            inputs,
            whole(inputs),
            parts(inputs),
            f"ranker {ranker.name!r}: item table, {share:.0%} of the candidates in it",
            "the item tower depends on more than the item; please report it with the model",
        )
