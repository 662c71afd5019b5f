"""Evaluates what a build of fewer bits costs in accuracy: the AUC of a zoo model on MovieLens, before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cleave.builders.cut.cut import Cut
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.cut.narrow import rounded_cut
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays
from cleave.builders.training.data_download import is_complete, movielens_100k
from cleave.builders.training.evaluate import evaluate
from cleave.builders.training.train import max_events_of
from cleave.builders.zoo.movielens import MovieLensModel


def aucs_of_build(
    wide: Cut, narrow: Cut, data: Path | None = None, progress: Callable[[str], None] = lambda line: None
) -> tuple[float, float] | None:
    """The AUCs of `aucs_on_test_part`; None for a ranker of other inputs, or without data.

    Where no data is given, MovieLens-100k is read if it was fetched before: a build needs no network.
    """
    if not isinstance(wide.ranker.module, MovieLensModel):
        return None
    if data is None and not is_complete(movielens_100k()):
        progress(f"{wide.ranker.name}: no test AUC, for want of data; `cleave catalogue FILE` fetches MovieLens-100k")
        return None
    return aucs_on_test_part(wide, narrow, data)


def aucs_on_test_part(wide: Cut, narrow: Cut, data: Path | None = None) -> tuple[float, float]:
    """The AUC on the test part of MovieLens: of a zoo model in float32, and of the same with fewer bits.

    Args:
        data: a GroupLens folder; by default MovieLens-100k, which is fetched if it is not there.
    """
    from cleave.builders.training import data as datasets  # noqa: PLC0415 - polars is slow to import

    ratings, output = datasets.load(data), wide.ranker.output[0].name

    def auc(cut: Cut) -> float:
        parts = EncoderThenScorer(rounded_cut(cut))

        def score(inputs: Arrays) -> AnyArray:
            return parts(inputs)[output]

        return evaluate(score, ratings, "test", max_events_of(cut.ranker)).auc

    return auc(wide), auc(narrow)
