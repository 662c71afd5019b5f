"""Makes one build: loads a ranker, cuts it, proves the cut, and on request adds an item table and takes fewer bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cleave.builders.contract.proof import Proof
from cleave.builders.cut.cut import Cut, cut_ranker
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.cut.item_catalogue import read_catalogue
from cleave.builders.cut.item_table import id_tensor, with_item_table
from cleave.builders.cut.narrow import narrowed, rounded_cut
from cleave.builders.cut.proof.item_table import check_item_table
from cleave.builders.cut.proof.prove import prove, referee_of
from cleave.builders.cut.proof.recorded import read_requests
from cleave.builders.load import described_weights, load_ranker
from cleave.builders.onnx_graph.random_inputs import draw_inputs

COMPARED_SEEDS = 8
"""The number of random requests, at `opt`, over which the score difference of fewer bits is taken."""

Progress = Callable[[str], None]
"""Takes a line that says what is being done."""

Evaluate = Callable[[Cut, Cut], tuple[float, float] | None]
"""From a cut in float32 and a narrower one of the same ranker to the AUC of each on a test set; None without one."""


@dataclass(frozen=True)
class BuildOptions:
    """The options of `cleave build` that decide what is built."""

    name: str
    sizes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    catalogue: Path | None = None
    summary_dtype: str | None = None
    """By default float16 where `precision` is of 16 bits, and else float32."""
    precision: str = "float32"
    tolerance: float | None = None
    """As of `builders.cut.proof.agreement.Referee`."""
    examples: Path | None = None
    """Recorded requests to prove the build on as well, as `builders.cut.proof.recorded` reads them."""


@dataclass(frozen=True)
class Narrowed:
    """What a precision of 16 bits, or a narrower summary, costs against float32."""

    summary_bytes: tuple[int, int]
    """The bytes of one user at `opt`: in float32, and as kept."""
    score_difference: float
    """The largest difference of a score over random requests."""
    test_auc: tuple[float, float] | None
    """The AUC on a test set: in float32, and as built; None where it was not evaluated."""


@dataclass(frozen=True)
class Build:
    """A cut that is proven, ready to be written."""

    cut: Cut
    proof: Proof
    weights: str
    """Where the weights come from, in words."""
    num_table_items: int | None = None
    narrowed: Narrowed | None = None


def build(
    options: BuildOptions,
    evaluate: Evaluate = lambda wide, narrow: None,
    progress: Progress = lambda line: None,
) -> Build:
    """Cut a ranker as asked and prove it.

    Args:
        evaluate: called where the build has fewer bits than float32.

    Raises:
        BuilderError: see `builders.load`, `builders.cut.cut`, `builders.cut.proof`, `builders.cut.item_catalogue`.
    """
    ranker = load_ranker(options.name, options.sizes)
    recorded = [] if options.examples is None else read_requests(options.examples, ranker)
    progress(f"{ranker.name}: exporting and cutting")
    cut = cut_ranker(ranker)
    progress(f"{ranker.name}: proving that what is served scores as the module does")
    referee = referee_of(cut, options.tolerance)
    proof = prove(cut, referee=referee, recorded=recorded)
    for warning in proof.warnings:
        progress(f"warning: {warning}")
    num_items = None
    if options.catalogue is not None:
        progress(f"{ranker.name}: running the item tower over the catalogue")
        items = read_catalogue(options.catalogue, ranker, id_tensor(ranker).name)
        num_items = len(items[id_tensor(ranker).name])
        tabled = with_item_table(cut, items)
        check_item_table(tabled, items, referee)
        cut = tabled
    weights = described_weights(options.name, options.sizes)
    narrow = narrowed(cut, options.precision, options.summary_dtype)
    if narrow is cut:
        return Build(cut, proof, weights, num_items)
    progress(f"{ranker.name}: comparing scores with those of float32")
    sizes = cut.ranker.sizes("opt")
    kept = Narrowed(
        summary_bytes=(cut.summary_bytes(sizes), narrow.summary_bytes(sizes)),
        score_difference=_score_difference(cut, narrow),
        test_auc=evaluate(cut, narrow),
    )
    return Build(narrow, proof, weights, num_items, kept)


def cut_as_configured(options: BuildOptions) -> Cut:
    """The cut whose configs a build writes, without proof and without a table, which no config shows."""
    return narrowed(cut_ranker(load_ranker(options.name, options.sizes)), options.precision, options.summary_dtype)


def _score_difference(wide: Cut, narrow: Cut) -> float:
    """The largest difference of a score over random requests at `opt`."""
    ranker = wide.ranker
    wide_parts, narrow_parts = (EncoderThenScorer(rounded_cut(cut)) for cut in (wide, narrow))
    largest = 0.0
    for seed in range(COMPARED_SEEDS):
        inputs = draw_inputs(ranker, ranker.sizes("opt"), 1, np.random.default_rng(seed), padded=True)
        expected, got = wide_parts(inputs), narrow_parts(inputs)
        largest = max(largest, *(float(np.abs(got[name] - scores).max()) for name, scores in expected.items()))
    return largest
