"""One build: load, cut, prove, and, where asked, bake an item table in and take fewer bits, with what that costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cleave.builders.cut.cut import Cut, cut_ranker
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.cut.item_catalogue import read_catalogue
from cleave.builders.cut.item_table import id_tensor, with_item_table
from cleave.builders.cut.narrow import narrowed
from cleave.builders.cut.proof.item_table import check_item_table
from cleave.builders.cut.proof.prove import Case, prove, referee_of
from cleave.builders.load import load_ranker
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays, draw_inputs
from cleave.builders.passes.precision import rounded_to
from cleave.builders.spec import Ranker
from cleave.builders.training.data_download import is_complete, movielens_100k
from cleave.builders.training.evaluate import evaluate
from cleave.builders.training.train import max_events_of
from cleave.builders.zoo.movielens import MovieLensModel

COMPARED_SEEDS = 8
"""Random requests at `opt` over which the score difference of a narrower summary is taken."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What `cleave build` was asked for."""

    name: str
    sizes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    catalogue: Path | None = None
    summary_dtype: str | None = None
    """By default float16 where `precision` is of 16 bits, and else float32."""
    precision: str = "float32"
    tolerance: float | None = None
    """As of `builders.cut.proof.agreement.Referee`."""


@dataclass(frozen=True)
class Narrowed:
    """What a precision of 16 bits and a narrower summary cost, against float32."""

    summary_bytes: tuple[int, int]
    """Of one user at opt: in float32, and as kept."""
    score_difference: float
    """The largest over random requests."""
    test_auc: tuple[float, float] | None
    """On MovieLens' test part: in float32, and as kept. None for a ranker that takes other inputs, or without data."""


@dataclass(frozen=True)
class Build:
    """A cut that is proven, ready to be written."""

    cut: Cut
    cases: tuple[Case, ...]
    num_table_items: int | None = None
    narrowed: Narrowed | None = None


def build(request: Request, data: Path | None = None, say: Say = lambda line: None) -> Build:
    """Cut a ranker as asked and prove it.

    Args:
        data: a GroupLens folder for the test AUC of what has fewer bits; by default MovieLens-100k if it is here, as
            a build needs no network.
        say: told what is being done.

    Raises:
        BuilderError: see `builders.load`, `builders.cut.cut`, `builders.cut.proof`, `builders.cut.item_catalogue`.
    """
    ranker = load_ranker(request.name, request.sizes)
    say(f"{ranker.name}: exporting and cutting")
    cut = cut_ranker(ranker)
    say(f"{ranker.name}: proving that the parts equal the whole")
    referee = referee_of(cut, request.tolerance)
    cases = tuple(prove(cut, referee=referee))
    num_items = None
    if request.catalogue is not None:
        say(f"{ranker.name}: running the item tower over the catalogue")
        items = read_catalogue(request.catalogue, ranker, id_tensor(ranker).name)
        num_items = len(items[id_tensor(ranker).name])
        tabled = with_item_table(cut, items)
        check_item_table(tabled, items, referee)
        cut = tabled
    narrow = narrowed(cut, request.precision, request.summary_dtype)
    if narrow is cut:
        return Build(cut, cases, num_items)
    say(f"{ranker.name}: comparing scores with those of float32")
    return Build(narrow, cases, num_items, _narrowed(cut, narrow, data, say))


def cut_as_configured(request: Request) -> Cut:
    """The cut whose configs a build writes, without proof and without a table, which no config shows."""
    cut = cut_ranker(load_ranker(request.name, request.sizes))
    return narrowed(cut, request.precision, request.summary_dtype)


def _narrowed(cut: Cut, narrow: Cut, data: Path | None, say: Say) -> Narrowed:
    sizes = cut.ranker.sizes("opt")
    wide_parts, narrow_parts = (
        EncoderThenScorer(rounded_to(each.history_encoder), rounded_to(each.candidate_scorer)) for each in (cut, narrow)
    )
    difference = 0.0
    for seed in range(COMPARED_SEEDS):
        inputs = draw_inputs(cut.ranker, sizes, 1, np.random.default_rng(seed), padded=True)
        expected, got = wide_parts(inputs), narrow_parts(inputs)
        difference = max(difference, *(float(np.abs(got[name] - scores).max()) for name, scores in expected.items()))
    aucs = None
    if isinstance(cut.ranker.module, MovieLensModel):
        if data is None and not is_complete(movielens_100k()):
            say(f"{cut.ranker.name}: no test AUC, for want of data; `cleave catalogue FILE` fetches MovieLens-100k")
        else:
            aucs = test_aucs(cut.ranker, wide_parts, narrow_parts, data)
    return Narrowed((cut.summary_bytes(sizes), narrow.summary_bytes(sizes)), difference, aucs)


def test_aucs(
    ranker: Ranker, wide: EncoderThenScorer, narrow: EncoderThenScorer, path: Path | None
) -> tuple[float, float]:
    """On MovieLens' test part, of a zoo model's parts with a float32 and with a narrower summary.

    Args:
        path: a GroupLens folder; by default MovieLens-100k.
    """
    from cleave.builders.training import data as datasets  # noqa: PLC0415 - polars is slow to import

    data = datasets.load(path)
    output = ranker.output[0].name

    def auc(parts: Callable[[Arrays], Arrays]) -> float:
        def score(inputs: dict[str, AnyArray]) -> AnyArray:
            return parts(inputs)[output]

        return evaluate(score, data, "test", max_events_of(ranker)).auc

    return auc(wide), auc(narrow)
