"""Trains any zoo model on ratings: one loop for all, in reach of a processor, the same weights for the same seed."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from cleave.builders.contract.location import Sizes
from cleave.builders.errors import BuilderError
from cleave.builders.load import random_ranker, zoo_sizes
from cleave.builders.spec import Ranker
from cleave.builders.training.data_examples import Batch, Rows, batch_of, block_rows, split_by_length
from cleave.builders.training.data_movielens import MovieLens
from cleave.builders.training.evaluate import Score, evaluate
from cleave.builders.training.metrics import Metrics
from cleave.builders.zoo.movielens import MovieLensModel

BLOCK = 16
"""The number of consecutive ratings that share one history in training."""

WARM_UP_STEPS = 50


class TrainingError(BuilderError):
    """Settings that cannot be trained with, or a training that diverged."""


@dataclass(frozen=True)
class TrainSettings:
    """How to train. The defaults were chosen by the validation part of MovieLens-100k."""

    seed: int = 0
    """The seed of the weights, of the order of examples and of the dropout."""
    epochs: int = 12
    """The most epochs; the learning rate falls to zero along half a cosine over them."""
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    """The weight decay of AdamW."""
    batch: int = 1024
    """The number of ratings of one step."""
    patience: int = 2
    """The number of epochs without a better validation AUC after which training stops."""
    threads: int = 1
    """More are faster on an idle machine. Another number adds in another order: weights differ in their last bits."""

    def __post_init__(self) -> None:
        leasts = {"seed": 0, "epochs": 1, "weight_decay": 0, "batch": 1, "patience": 1, "threads": 1}
        for name, least in leasts.items():
            if not least <= getattr(self, name) < math.inf:
                raise TrainingError(
                    f"training: {name}: expected at least {least}, got {getattr(self, name)}; choose another number"
                )
        if not 0 < self.learning_rate < math.inf:
            raise TrainingError(
                f"training: learning_rate: expected a number above 0, got {self.learning_rate}; 0.001 is common"
            )


@dataclass(frozen=True)
class Fitted:
    """A ranker at its best epoch, in evaluation mode, and what the validation part says of it."""

    ranker: Ranker
    sizes: dict[str, int | float]
    """Every size that the zoo function was called with."""
    best_epoch: int
    """The epoch that these weights are of, counted from 1."""
    validation: Metrics

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.ranker.module.parameters())


@dataclass(frozen=True)
class Trained(Fitted):
    """What was fitted, how, and what the test part says of it."""

    settings: TrainSettings
    seconds: float
    test: Metrics


def fit(
    name: str,
    data: MovieLens,
    sizes: Sizes | None = None,
    settings: TrainSettings | None = None,
    show_progress: bool = True,
) -> Fitted:
    """Train the zoo model `name` from random weights; keep the epoch of the best validation AUC.

    The test part is not looked at. While it trains, validation is estimated with blocks, as in training; the metrics
    returned are of exact histories.

    Args:
        name: a zoo model.
        data: its films set the size `num_items`.
        sizes: other sizes than the model's defaults.
        settings: other settings than the defaults.
        show_progress: draws a bar on stderr.

    Raises:
        LoadError: there is no such model or size.
        TrainingError: the number of films is not that of the data, or the loss became NaN.
        MetricsError: a part of the data is empty or has labels of one kind.
    """
    settings = settings or TrainSettings()
    chosen = zoo_sizes(name, {"num_items": data.num_items, **(sizes or {})})
    if chosen["num_items"] != data.num_items:
        raise TrainingError(
            f"training: num_items: expected {data.num_items} as the data has, got {chosen['num_items']}; leave it out"
        )
    ranker = random_ranker(name, chosen, settings.seed)
    with _threads(settings.threads), torch.random.fork_rng(devices=()):
        torch.manual_seed(settings.seed)
        best_epoch = _fit(ranker, data, settings, show_progress)
        validation = evaluate(score_of(ranker.module), data, "validation", max_events_of(ranker))
    return Fitted(ranker, chosen, best_epoch, validation)


def train(
    name: str,
    data: MovieLens,
    sizes: Sizes | None = None,
    settings: TrainSettings | None = None,
    show_progress: bool = True,
) -> Trained:
    """Train as `fit` does, with its arguments and errors, and evaluate on the test part."""
    settings = settings or TrainSettings()
    began = time.perf_counter()
    fitted = fit(name, data, sizes, settings, show_progress)
    with _threads(settings.threads):
        test = evaluate(score_of(fitted.ranker.module), data, "test", max_events_of(fitted.ranker))
    return Trained(**vars(fitted), settings=settings, seconds=time.perf_counter() - began, test=test)


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def score_of(module: torch.nn.Module) -> Score:
    """The module as a function of numpy arrays, in evaluation mode."""

    def score(inputs: dict[str, NDArray[Any]]) -> NDArray[np.floating[Any]]:
        with torch.inference_mode():
            probabilities: NDArray[np.floating[Any]] = module(**_tensors(inputs)).numpy()
        return probabilities

    module.eval()
    return score


def max_events_of(ranker: Ranker) -> int:
    """The longest history that the ranker takes."""
    assert ranker.history_axis is not None
    return ranker.history_axis.max


def _fit(ranker: Ranker, data: MovieLens, settings: TrainSettings, show_progress: bool) -> int:
    """Train the module, leave the weights of the best epoch in it, and return the number of that epoch."""
    module, max_events = ranker.module, max_events_of(ranker)
    assert isinstance(module, MovieLensModel)
    block = min(BLOCK, ranker.candidate_axis.max)
    rng = np.random.default_rng(settings.seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    validation_rows = block_rows(data, "validation", block)
    best_auc, best_epoch, best_state = -1.0, 0, module.state_dict()
    for epoch in range(1, settings.epochs + 1):
        module.train()
        steps = list(_steps(block_rows(data, "train", block, rng), settings.batch, rng))
        losses = []
        with tqdm(total=len(steps), desc=f"epoch {epoch}/{settings.epochs}", disable=not show_progress) as bar:
            for step, rows in enumerate(steps):
                rate = _learning_rate(settings, epoch - 1 + step / len(steps), (epoch - 1) * len(steps) + step)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                losses.append(_step(module, optimizer, data, rows, max_events))
                bar.set_postfix(loss=f"{np.mean(losses):.4f}", refresh=False)
                bar.update()
            found = evaluate(score_of(module), data, "validation", max_events, validation_rows)
            bar.set_postfix(loss=f"{np.mean(losses):.4f}", validation_auc=f"{found.auc:.4f}")
        if found.auc > best_auc:
            best_auc, best_epoch, best_state = found.auc, epoch, copy.deepcopy(module.state_dict())
        elif epoch - best_epoch >= settings.patience:
            break
    module.load_state_dict(best_state)
    module.eval()
    return best_epoch


def _learning_rate(settings: TrainSettings, epochs_done: float, steps_done: int) -> float:
    """The learning rate of a step: a short warm-up, then half a cosine down to zero over all epochs."""
    warm_up = min(1.0, (steps_done + 1) / WARM_UP_STEPS)
    return settings.learning_rate * warm_up * (1 + math.cos(math.pi * epochs_done / settings.epochs)) / 2


def _steps(rows: Rows, batch: int, rng: np.random.Generator) -> Iterator[Rows]:
    """The rows of each step: all rows in random order, about `batch` ratings at a time."""
    shuffled = rows.take(rng.permutation(len(rows)))
    step_of_row = (np.cumsum(shuffled.counts) - 1) // batch
    for places in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(step_of_row)) + 1):
        yield shuffled.take(places)


def _step(
    module: MovieLensModel, optimizer: torch.optim.Optimizer, data: MovieLens, rows: Rows, max_events: int
) -> float:
    """One step of the optimizer; its gradient is summed over parts of similar length, which need little padding."""
    num_ratings = int(rows.counts.sum())
    total = 0.0
    optimizer.zero_grad()
    for places in split_by_length(data, rows, max_events):
        batch = batch_of(data, rows.take(places), max_events)
        inputs = _tensors(batch.inputs)
        loss = _prediction_loss(module, batch, inputs) / num_ratings
        loss = loss + module.auxiliary_loss(**inputs) * (len(places) / len(rows))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    if not math.isfinite(total):
        raise TrainingError(f"training: the loss is {total}, expected a finite number; give a smaller --learning-rate")
    optimizer.step()
    return total


def _prediction_loss(module: MovieLensModel, batch: Batch, inputs: dict[str, Tensor]) -> Tensor:
    """The summed cross-entropy of the real candidates."""
    real = torch.from_numpy(batch.real)
    return functional.binary_cross_entropy_with_logits(
        module.logits(**inputs)[real], torch.from_numpy(batch.labels)[real], reduction="sum"
    )


def _tensors(inputs: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in inputs.items()}
