"""Scores real ratings as serving would have: each with exactly the history that came before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleave.builders.training.data_examples import Part, Rows, batch_of, exact_rows, split_by_length
from cleave.builders.training.data_movielens import MovieLens
from cleave.builders.training.metrics import Metrics, metrics_of

Floats = NDArray[np.floating[Any]]
Score = Callable[[dict[str, NDArray[Any]]], NDArray[np.floating[Any]]]
"""From inputs by name, each [R, ...], to probabilities [R, M]: a torch module, an ONNX session or a server."""


def evaluate(score: Score, data: MovieLens, part: Part, max_events: int, rows: Rows | None = None) -> Metrics:
    """The metrics over a part of the data.

    Args:
        score: anything that scores a batch.
        max_events: what the model's history axis holds.
        rows: the part's rows in another form, for a quicker estimate; by default each rating has its exact history.

    Raises:
        MetricsError: the part is empty, or its labels are all the same.
    """
    return metrics_of(*predict(score, data, exact_rows(data, part) if rows is None else rows, max_events))


def predict(score: Score, data: MovieLens, rows: Rows, max_events: int) -> tuple[Floats, Floats]:
    """The labels [E] and probabilities [E] of every candidate of the rows, row after row."""
    num_examples = int(rows.counts.sum())
    labels, probabilities = np.empty(num_examples), np.empty(num_examples)
    ends = np.cumsum(rows.counts)
    for places in split_by_length(data, rows, max_events):
        batch = batch_of(data, rows.take(places), max_events)
        columns = np.arange(batch.real.shape[1])
        examples = ((ends - rows.counts)[places][:, None] + columns)[batch.real]
        labels[examples] = batch.labels[batch.real]
        probabilities[examples] = score(batch.inputs)[batch.real]
    return labels, probabilities
