"""Serves a module in process as a client and a server do, and compares with the module on what the caller gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cleave.builders import Axis, Ranker
from cleave.builders.contract.signature import ServedAxis, ServedTensor, Signature
from cleave.builders.names import SIGNATURE_PARAMETER
from cleave.clients.padding import outputs_from_answers, requests_from_arrays, slices
from cleave.clients.signature import ModelSignature, ServedModel, signature_from_served
from tests.builders.cut.proof.random_modules import LARGEST, RandomRanker
from tests.builders.cut.proof.readers import NUM_ITEMS

Arrays = dict[str, NDArray[Any]]

LARGE_SHARE = 1e-3
"""Of the spread of the scores: a served score that is further off is wrong, whatever is rounded."""


def signature_of(ranker: Ranker) -> ModelSignature:
    """What a client learns of the whole model."""
    limits = {
        axis.name: ServedAxis(axis.min, axis.opt, axis.max, axis.buckets, axis.padding_side, axis.min_real)
        for axis in ranker.axes
    }
    inputs = {t.name: ServedTensor(_names(t.axes), role, t.pad) for role, t in ranker.tensors() if role != "output"}
    outputs = {tensor.name: ServedTensor(_names(tensor.axes)) for tensor in ranker.output}
    types = {tensor.name: (tensor.numpy_dtype, (-1,)) for _, tensor in ranker.tensors()}
    served = ServedModel(
        64,
        {name: types[name] for name in inputs},
        {name: types[name] for name in outputs},
        {SIGNATURE_PARAMETER: Signature(limits, inputs, outputs).to_json()},
    )
    return signature_from_served(ranker.name, served)


def _names(axes: tuple[Axis | int, ...]) -> tuple[str | int, ...]:
    return tuple(axis.name if isinstance(axis, Axis) else axis for axis in axes)


class Oracle:
    """Callers with lists of any length, whose requests a server joins in batches where they have one shape."""

    def __init__(self, drawn: RandomRanker, seed: int) -> None:
        self.drawn = drawn
        self.ranker = drawn.ranker
        self.signature = signature_of(self.ranker)
        self.rng = np.random.default_rng([seed, 1])

    def worst(self, rounds: int, users: int = 5) -> float:
        """The largest difference of a served score, in units of the spread of all scores, over so many batches.

        Infinite where the module cannot be run at sizes that a caller may have.
        """
        differences, scores = [], []
        for _ in range(rounds):
            callers = [self.caller() for _ in range(users)]
            callers.append({**callers[0], **{t.name: callers[0][t.name][::-1] for t in self.ranker.candidate}})
            for caller, got in zip(callers, self.served(callers), strict=True):
                expected = self.module(caller)
                differences.append(float(np.abs(expected - got).max()))
                scores.append(expected)
        return max(differences) / max(float(np.concatenate(scores).std()), 1e-6)

    def caller(self) -> Arrays:
        lengths = {axis.name: self.length(axis) for axis in self.ranker.axes}
        caller = {
            tensor.name: self.rng.integers(0 if self.rng.random() < 0.3 else 1, NUM_ITEMS, tensor.shape(lengths))
            for tensor in self.ranker.inputs
        }
        if self.rng.random() < 0.15:  # somebody who does one thing over and over
            caller |= {tensor.name: np.full_like(caller[tensor.name], 7) for tensor in self.ranker.user}
        return caller

    def length(self, axis: Axis) -> int:
        """Any that the axis holds, or beside a number that the module goes by; a list may be longer than the axis."""
        is_list = axis == self.ranker.candidate_axis
        most = max(2 * axis.max, 2 * LARGEST) if is_list else axis.max
        length = int(np.exp(self.rng.uniform(0, np.log(most + 1)))) - int(self.rng.random() < 0.05)
        kind = self.rng.random()
        if self.drawn.sizes and kind < 0.4:
            length = int(self.rng.choice(self.drawn.sizes)) + int(self.rng.integers(-2, 3))
        elif kind < 0.6:
            length = int(self.rng.integers(1, most + 1))
        return int(np.clip(length, 1 if is_list else axis.min_real, most))

    def module(self, caller: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The scores of the module, of the whole list, without padding but for what `Axis.min` asks for."""
        fed = {}
        for tensor in self.ranker.inputs:
            (axis,) = (axis for axis in tensor.axes if isinstance(axis, Axis))
            missing = max(0, axis.min - len(caller[tensor.name]))
            widths = (missing, 0) if axis.padding_side == "left" else (0, missing)
            fed[tensor.name] = torch.from_numpy(np.pad(caller[tensor.name], widths, constant_values=tensor.pad)[None])
        with torch.no_grad():
            scores: NDArray[np.float32] = self.ranker.module(**fed)[0].numpy()
        return scores[: len(caller[self.ranker.candidate[0].name])]

    def served(self, callers: list[Arrays]) -> list[NDArray[np.float32]]:
        """The scores that each caller gets of a server that they ask at the same time."""
        plans = []
        for caller in callers:
            sizes = {
                axis.name: len(caller[tensor.name])
                for tensor in self.ranker.inputs
                for axis in tensor.axes
                if isinstance(axis, Axis)
            }
            micro_batch = int(self.rng.integers(1, 200)) if self.rng.random() < 0.3 else None
            parts = slices(self.signature, sizes, micro_batch)
            plans.append((sizes, parts, requests_from_arrays(self.signature, caller, parts)))
        answers = iter(self.answers([request for _, _, requests in plans for request in requests]))
        name = self.ranker.output[0].name
        return [
            outputs_from_answers(self.signature, sizes, [{name: next(answers)} for _ in requests], parts)[name]
            for sizes, parts, requests in plans
        ]

    def answers(self, requests: list[Arrays]) -> list[NDArray[np.float32]]:
        """A server's answers: requests of one shape share a batch, several at a time."""
        alike: dict[object, list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(tuple(array.shape for array in request.values()), []).append(place)
        answers: dict[int, NDArray[np.float32]] = {}
        for places in alike.values():
            for start in range(0, len(places), 8):
                joined = places[start : start + 8]
                batch = {n: torch.from_numpy(np.concatenate([requests[p][n] for p in joined])) for n in requests[0]}
                with torch.no_grad():
                    scores = self.ranker.module(**batch).numpy()
                answers |= {place: scores[[row]] for row, place in enumerate(joined)}
        return [answers[place] for place in range(len(requests))]
