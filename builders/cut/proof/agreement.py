"""The one place that decides whether two ways to compute the same scores agree."""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cleave.builders.cut.proof.double import DoubleModule
from cleave.builders.cut.proof.truth import torch_outputs
from cleave.builders.errors import BuilderError, CheckError
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays, draw_inputs
from cleave.builders.spec import Ranker

LEAST = 1e-5
"""Of the spread of the scores: so much is always allowed."""
MOST = 3e-4
"""Of the spread of the scores: more is not allowed, however far torch itself is."""
FACTOR = 4
"""A score may be so many times as far from float64 as those of torch are."""
LAST_DIGITS = 8 * float(np.finfo(np.float32).epsneg)
"""Of the largest score, always allowed: what scores far from zero lose by being written down."""

NUM_HEARD = 16
"""Inputs whose scores in float64 are remembered: users of a batch are compared in several ways."""

SAMPLED_USERS, LONGEST_SAMPLE = 8, 32
"""Over which the usual spread is taken: users, and the size of each axis where its `opt` is larger."""


Rows = Callable[[Arrays], Arrays]
"""From the outputs of a module, by name, to what is compared of them."""


class ParityError(CheckError):
    """Two ways to compute the same scores differ."""


@dataclass(frozen=True)
class Agreement:
    """How far two ways to compute the same scores are apart."""

    difference: float
    """The largest, in units of the spread of the scores; infinite where shapes differ or a score is NaN."""
    disagreement: str | None
    """In words where it is too large: the output, the place, what was expected and got. None if the scores agree."""
    is_undecided: bool = False
    """They disagree, and so does torch with itself in float64, by more than could be allowed."""


class Referee:
    """Says whether scores are as good as those of the torch module.

    Differences are measured against the *spread* of the scores: their standard deviation over the users and candidates
    that are compared, or over a sample of users where that is larger, as a score alone has no spread. A ranking does
    not change by what is small against it, whether scores are of the order of 1e-6 or of 1e6.

    Scores agree within 1e-5 of the spread. Where they are further apart float64 is the referee: the module runs in it
    on the same inputs, and a score may be 4 times as far from float64, or from torch, as torch's own scores are from
    float64, here or in the sample, but no further than 3e-4 of the spread; that is also what a module gets which does
    not run in float64. Eight units in the last place of the largest score come on top. Where torch's own score is not
    finite nothing is compared.

    So the rounding of float32 passes, in sums over any number of events, and 1e-3 of the spread does not: scores of a
    wrong cut are off by about as much as they spread. A value on the edge of a bucket falls to one side in float32 and
    to the other in float64: either is right.
    """

    def __init__(self, ranker: Ranker, precision: str = "float32", tolerance: float | None = None) -> None:
        """
        Args:
            ranker: with its id ranges filled in.
            precision: the narrowest that the module computes in, as of `builders.passes.precision`.
            tolerance: what is allowed instead, in units of the spread, without float64 being asked.

        Raises:
            BuilderError: `tolerance` is not a positive number.
        """
        if tolerance is not None and not (math.isfinite(tolerance) and tolerance > 0):
            raise BuilderError(
                f"--tolerance: expected a positive share of the spread of the scores, got {tolerance:g}; leave it out "
                f"for {LEAST:g}, and up to {MOST:g} where torch itself rounds as much"
            )
        self.tolerance = tolerance
        self.most_allowed = LEAST if tolerance is None else tolerance
        """The most that was allowed so far, in units of the spread."""
        self.largest = 0.0
        """The largest difference so far that was no disagreement, in the same units."""
        self._ranker = ranker
        self._precision = precision
        self._double = DoubleModule(ranker)
        self._heard: deque[tuple[Arrays, tuple[Arrays | None, Arrays]]] = deque(maxlen=NUM_HEARD)

    @property
    def refusal(self) -> str | None:
        """Why the module does not run in float64, where that was needed; None otherwise."""
        return self._double.refusal

    def check(self, inputs: Arrays, expected: Arrays, got: Arrays, where: str, remedy: str) -> float:
        """The largest difference of any output, in units of the spread.

        Args:
            inputs, expected, got: as of `agreement`.
            where: begins the message of the error; `remedy` ends it.

        Raises:
            ParityError: the outputs disagree.
        """
        found = self.agreement(inputs, expected, got)
        if found.disagreement is not None:
            raise ParityError(f"{where}: {found.disagreement}; {remedy}")
        return found.difference

    def check_precision(self) -> None:
        """Refuse a module of 16 bits whose rounding hides what a wrong graph would change.

        Raises:
            ParityError: torch itself is further from float64 than is allowed.
        """
        own = 0.0 if self._precision == "float32" or self.tolerance else max(self._usual_rounding.values())
        if own > MOST:
            raise ParityError(
                f"ranker {self._ranker.name!r}: the module computes in {self._precision}: expected scores of torch "
                f"within {MOST:g} of their spread from those of float64, got {own:.2g}; keep the module in float32 "
                f"(module.float()), and let --precision {self._precision} write 16 bits where scores need no more"
            )

    def agreement(
        self, inputs: Arrays, expected: Arrays, got: Arrays, rows: Rows | None = None, by_size: bool = False
    ) -> Agreement:
        """How far outputs are apart.

        Args:
            inputs: of the module, for which it gives outputs of the shapes of `expected`.
            expected: the outputs of the module, or what was found equal to them, by name.
            got: what is in question.
            rows: what of the module's outputs for these inputs is compared, where that is not all as it is.
            by_size: the largest score is a spread, too: for inputs that are far from those of the sample.
        """
        largest = 0.0
        for name, values in expected.items():
            if values.shape != got[name].shape:
                return Agreement(math.inf, f"output {name!r}: expected shape {values.shape}, got {got[name].shape}")
            size = float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) if by_size else 0.0
            scores = _Scores(values, max(self._usual_spread(name), size))
            apart, allowed, own, said = scores.distance(got[name]), self.tolerance or LEAST, None, ""
            if self.tolerance is None and scores.is_beyond(apart, allowed):
                apart, allowed, own = self._hear_float64(name, scores, inputs, got[name], apart, rows or _as_it_is)
                said = f" (the module does not run in float64: {self.refusal})"
                if own is not None:
                    said = f", as torch is {own:.2g} from float64"
            if scores.is_beyond(apart, allowed):
                words = scores.words(name, got[name], apart, allowed) + said
                return Agreement(scores.in_spreads(apart), words, own is not None and own > MOST)
            self.most_allowed = max(self.most_allowed, allowed)
            largest = max(largest, scores.in_spreads(apart))
        self.largest = max(self.largest, largest)
        return Agreement(largest, None)

    def _hear_float64(
        self, name: str, scores: _Scores, inputs: Arrays, got: AnyArray, apart: AnyArray, rows: Rows
    ) -> tuple[AnyArray, float, float | None]:
        """Distances to whatever is nearest of torch and float64, what is allowed, and how far torch is from float64."""
        exact, single = self._both(inputs)
        if exact is None:
            return apart, MOST, None
        of_float64 = _Scores(np.where(scores.finite, rows(exact)[name], np.inf), scores.usual)
        own = scores.in_spreads(of_float64.distance(rows(single)[name]))
        nearest = np.minimum(apart, of_float64.distance(got))
        allowed = min(max(FACTOR * own, FACTOR * self._usual_rounding[name], LEAST), MOST)
        return nearest, allowed, own

    def _both(self, inputs: Arrays) -> tuple[Arrays | None, Arrays]:
        """What the module gives in float64, if anything, and as it is; kept for the next times it is asked for."""
        for asked, answer in self._heard:
            if asked is inputs:
                return answer
        answer = self._double(inputs), torch_outputs(self._ranker, inputs)
        self._heard.append((inputs, answer))
        return answer

    def _usual_spread(self, name: str) -> float:
        return self._sample.scores[name].spread

    @functools.cached_property
    def _usual_rounding(self) -> dict[str, float]:
        """How far torch is from float64 in the sample, in units of the spread, by output."""
        exact, single = self._double(self._sample.inputs), self._sample.scores
        return {
            name: 0.0 if exact is None else scores.in_spreads(scores.distance(exact[name]))
            for name, scores in single.items()
        }

    @functools.cached_property
    def _sample(self) -> _Sample:
        sizes = {axis.name: max(axis.min, min(axis.opt, LONGEST_SAMPLE)) for axis in self._ranker.axes}
        inputs = draw_inputs(self._ranker, sizes, SAMPLED_USERS, np.random.default_rng(0))
        outputs = torch_outputs(self._ranker, inputs)
        return _Sample(inputs, {name: _Scores(values, 0.0) for name, values in outputs.items()})


@dataclass(frozen=True, eq=False)
class _Sample:
    """Users at middling sizes, and the scores that the module gives them."""

    inputs: Arrays
    scores: Mapping[str, _Scores]


def _as_it_is(outputs: Arrays) -> Arrays:
    return outputs


class _Scores:
    """The scores that are expected, and the unit in which distances from them are measured."""

    def __init__(self, expected: AnyArray, usual: float) -> None:
        self.expected = expected.astype(np.float64)
        self.usual = usual
        self.finite = np.isfinite(self.expected)
        finite = self.expected[self.finite]
        self.spread = max(usual, float(finite.std())) if finite.size else usual
        self.last_digits = LAST_DIGITS * float(np.abs(finite).max(initial=0.0))

    def distance(self, got: AnyArray) -> AnyArray:
        """Of every score; infinite where one is NaN that should be a number, zero where any will do."""
        with np.errstate(invalid="ignore"):
            apart = np.abs(got.astype(np.float64) - self.expected)
        return np.where(self.finite, np.where(np.isnan(apart), np.inf, apart), 0.0)

    def is_beyond(self, apart: AnyArray, allowed: float) -> bool:
        """Whether a distance is larger than `allowed` spreads."""
        return bool((apart > allowed * self.spread + self.last_digits).any())

    def in_spreads(self, apart: AnyArray) -> float:
        """The largest distance in units of the spread; where scores do not spread at all, of the largest score."""
        largest = float(apart.max(initial=0.0))
        unit = self.spread or self.last_digits / LAST_DIGITS
        return largest / unit if unit else math.inf if largest else 0.0

    def words(self, name: str, got: AnyArray, apart: AnyArray, allowed: float) -> str:
        """Where the largest distance is, and what it is."""
        place = np.unravel_index(int(np.argmax(apart)), apart.shape)
        return (
            f"output {name!r} at {list(map(int, place))}: expected {self.expected[place]:.7g}, got "
            f"{float(got[place]):.7g}, a difference of {self.in_spreads(apart):.2g} of the spread of the scores, "
            f"{self.spread:.2g}, where {allowed:.2g} is allowed"
        )
