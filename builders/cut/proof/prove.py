"""Proves a cut on random inputs: the parts equal the whole, and the whole has the properties that the cut rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cleave.builders.cut.cut import Cut
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.cut.proof.agreement import ParityError, Referee
from cleave.builders.cut.proof.truth import torch_outputs
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays, draw_inputs, pad_tail, repeated_for_candidates
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes.precision import precision_of
from cleave.builders.spec import Axis, Ranker

PROPERTY_CANDIDATES = 5
PROPERTY_LENGTH = 7
"""Sizes at which joint scoring and padding are checked: every way to break them shows at any size."""


EXPORTER = (
    "the graph that torch.onnx.export wrote is not this module: it has one branch of an `if` on sizes or values, or "
    "an operator that is written as others"
)


@dataclass(frozen=True)
class Case:
    """Sizes at which the parts were compared with the whole, and the largest difference found."""

    batch: int
    sizes: dict[str, int]
    difference: float


def referee_of(cut: Cut, tolerance: float | None = None) -> Referee:
    """What decides whether scores are as good as those of the module of a cut."""
    return Referee(cut.ranker, precision_of(cut.whole), tolerance)


def prove(cut: Cut, seed: int = 0, referee: Referee | None = None) -> list[Case]:
    """Check a cut on random inputs and return the cases compared.

    Raises:
        ParityError: names the output and what to do, for: torch and encoder then scorer against the whole graph
            (at min, opt and max of every axis, batch 1 and more, summaries of a batch and of each user alone), a
            candidate that changes another's score, padding that changes a score, a history of padding only that has no
            finite score.
        RunError: a part fails at sizes within its axes.
    """
    whole = OnnxRunner(cut.whole)
    rng = np.random.default_rng(seed)
    referee = referee or referee_of(cut)
    check_whole(cut.ranker, whole, referee, rng)
    parts = EncoderThenScorer(cut)
    cases = []
    of_ranker = f"ranker {cut.ranker.name!r}"
    for batch, sizes in cases_of(cut.ranker):
        inputs = draw_inputs(cut.ranker, sizes, batch, rng, padded=batch > 1)
        where = f"batch {batch}, " + ", ".join(f"{name} {size}" for name, size in sizes.items())
        true = torch_outputs(cut.ranker, inputs)  # first: where the module itself fails, its line is named
        expected = whole(inputs)
        referee.check(inputs, true, expected, f"{of_ranker}: ONNX against torch ({where})", EXPORTER)
        difference = referee.check(
            inputs,
            expected,
            parts(inputs),
            f"{of_ranker}: history encoder then candidate scorer ({where})",
            "the cut is wrong for this graph; please report it with the model",
        )
        if batch > 1:  # one user is encoded alone as it is
            referee.check(
                inputs,
                expected,
                parts.with_users_apart(inputs),
                f"{of_ranker}: summaries encoded one user at a time ({where})",
                "users see each other; keep row i of every tensor that of user i",
            )
        cases.append(Case(batch, dict(sizes), difference))
    return cases


def check_whole(ranker: Ranker, whole: OnnxRunner, referee: Referee, rng: np.random.Generator) -> None:
    """Check the graph of the whole model against torch, candidate by candidate, and with padding.

    Raises:
        ParityError: see `prove`.
    """
    least = {axis.name: min(axis.max, max(axis.min, PROPERTY_LENGTH)) for axis in ranker.axes}
    axis = ranker.candidate_axis
    sizes = {**least, axis.name: min(axis.max, max(axis.min, PROPERTY_CANDIDATES))}
    inputs = _with_empty_history(ranker, draw_inputs(ranker, sizes, 3, rng, padded=True))
    expected, exported = torch_outputs(ranker, inputs), whole(inputs)
    _check_finite(ranker, expected)
    _check_finite(ranker, exported)
    referee.check(inputs, expected, exported, f"ranker {ranker.name!r}: ONNX against torch", EXPORTER)
    _check_joint(ranker, whole, referee, sizes, rng)
    _check_padding(ranker, whole, referee, inputs)


def _with_empty_history(ranker: Ranker, inputs: Arrays) -> Arrays:
    """The inputs with nothing but padding along the axes of the first user."""
    emptied = dict(inputs)
    for tensor in ranker.user:
        for place, axis in enumerate(tensor.axes):
            if isinstance(axis, Axis):
                lengths = np.full(len(inputs[tensor.name]), inputs[tensor.name].shape[place + 1])
                lengths[0] = 0
                emptied[tensor.name] = pad_tail(emptied[tensor.name], place + 1, lengths, tensor.pad)
    return emptied


def _check_finite(ranker: Ranker, outputs: Arrays) -> None:
    for name, values in outputs.items():
        users = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        if len(users):
            which = "for a history of padding only" if users.tolist() == [0] else "for random inputs"
            raise ParityError(
                f"ranker {ranker.name!r}: output {name!r} {which}: expected finite numbers, got "
                f"{values[users[0]].min()}; let attention over no keys be zero: mask weights with a large negative "
                "number instead of minus infinity, and values with zero"
            )


def _check_joint(
    ranker: Ranker, whole: OnnxRunner, referee: Referee, sizes: Mapping[str, int], rng: np.random.Generator
) -> None:
    inputs = draw_inputs(ranker, sizes, 1, rng)
    together = whole(inputs)
    alone = whole(repeated_for_candidates(ranker, inputs))
    referee.check(
        inputs,
        together,
        {name: np.swapaxes(scores, 0, 1) for name, scores in alone.items()},
        f"ranker {ranker.name!r}: candidates scored one by one against together",
        "candidates see each other, or the history sees them; mask attention so that neither reads a candidate",
    )


def _check_padding(ranker: Ranker, whole: OnnxRunner, referee: Referee, inputs: Arrays) -> None:
    expected = whole(inputs)
    for axis in ranker.axes:
        size = next(
            inputs[tensor.name].shape[tensor.axes.index(axis) + 1] for tensor in ranker.inputs if axis in tensor.axes
        )
        if size == axis.max:
            continue
        padded = {tensor.name: _padded(tensor.axes, axis, inputs[tensor.name], tensor.pad) for tensor in ranker.inputs}
        referee.check(
            inputs,
            expected,
            {
                tensor.name: _cut_back(tensor.axes, axis, scores, size)
                for tensor, scores in zip(ranker.output, whole(padded).values(), strict=True)
            },
            f"ranker {ranker.name!r}: axis {axis.name!r} padded from {size} to {size + 1}",
            f"padding of {axis.name!r} changes scores, so it cannot be padded to buckets; mask rows that hold the pad "
            "value, and average over real rows only",
        )


def _padded(axes: tuple[Axis | int, ...], axis: Axis, array: AnyArray, pad: float) -> AnyArray:
    for place, entry in enumerate(axes):
        if entry == axis:
            widths = [(0, 0)] * array.ndim
            widths[place + 1] = (0, 1)
            array = np.pad(array, widths, constant_values=pad)
    return array


def _cut_back(axes: tuple[Axis | int, ...], axis: Axis, array: AnyArray, size: int) -> AnyArray:
    for place, entry in enumerate(axes):
        if entry == axis:
            array = np.take(array, np.arange(size), axis=place + 1)
    return array


def cases_of(ranker: Ranker) -> list[tuple[int, dict[str, int]]]:
    """All axes at min, at opt and at max: one user without padding, and several with, where the shapes are small."""
    return [
        (1, ranker.sizes("min")),
        (3, ranker.sizes("min")),
        (1, ranker.sizes("opt")),
        (2, ranker.sizes("opt")),
        (1, ranker.sizes("max")),
    ]
