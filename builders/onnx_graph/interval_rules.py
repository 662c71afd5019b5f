"""Interval arithmetic: from the bounds of an operator's inputs to those of its output, an operator a row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Number = int | float
LARGEST_AXIS = 2**31 - 1
"""No axis has more elements, nor has any tensor of an engine."""


@dataclass(frozen=True)
class Interval:
    """All values are from `low` to `high`, both included."""

    low: Number
    high: Number

    def is_within(self, other: Interval) -> bool:
        """Whether no value is outside another interval."""
        return other.low <= self.low and self.high <= other.high

    def __and__(self, other: Interval) -> Interval:
        """Values of both; this one where there are none, as no request gets there."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Interval(low, high) if low <= high else self


EVERYTHING = Interval(-math.inf, math.inf)
BOOLEAN = Interval(0, 1)


def hull(*values: Number) -> Interval:
    """The smallest interval with all values in it; everything where one is NaN."""
    if any(math.isnan(value) for value in values):
        return EVERYTHING
    return Interval(min(values), max(values))


def union(intervals: list[Interval]) -> Interval:
    """The smallest interval with all of the intervals in it."""
    return hull(*(end for each in intervals for end in (each.low, each.high)))


@dataclass(frozen=True)
class Call:
    """What a rule reads of a node."""

    inputs: Sequence[Interval | None]
    """None of inputs that are left out."""
    attributes: dict[str, Any]

    def present(self, place: int) -> Interval | None:
        """The bounds of an input, or None if it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def input(self, place: int) -> Interval:
        """The bounds of an input; everything if it is left out."""
        return self.present(place) or EVERYTHING

    @property
    def first(self) -> Interval:
        return self.input(0)

    @property
    def second(self) -> Interval:
        return self.input(1)

    @property
    def all(self) -> list[Interval]:
        """The bounds of inputs that are not left out."""
        return [each for each in self.inputs if each is not None]


Rule = Callable[[Call], Interval]


def _corners(function: Callable[[Number, Number], Number]) -> Rule:
    """Of a function that is monotone in each of two inputs."""

    def rule(call: Call) -> Interval:
        left, right = call.first, call.second
        return hull(*itertools.starmap(function, itertools.product((left.low, left.high), (right.low, right.high))))

    return rule


def _monotone(function: Callable[[Number], Number]) -> Rule:
    def rule(call: Call) -> Interval:
        return hull(function(call.first.low), function(call.first.high))

    return rule


def _bounded(low: Number, high: Number) -> Rule:
    return lambda call: Interval(low, high)


def _times(left: Number, right: Number) -> Number:
    return 0 if 0 in (left, right) else left * right


def _whole(function: Callable[[float], int]) -> Callable[[Number], Number]:
    return lambda value: function(value) if math.isfinite(value) else value


def _quotient(call: Call) -> Interval:
    """Of integers towards zero, and so no farther from it than the dividend."""
    ends = (call.first.low, call.first.high, call.second.low, call.second.high)
    are_integers = all(isinstance(end, int) for end in ends)
    if call.second.low <= 0 <= call.second.high:
        farthest = max(abs(call.first.low), abs(call.first.high))
        return Interval(-farthest, farthest) if are_integers else EVERYTHING
    return _corners(_towards_zero if are_integers else lambda left, right: left / right)(call)


def _towards_zero(left: Number, right: Number) -> Number:
    whole = abs(left) // abs(right)
    return whole if (left < 0) == (right < 0) else -whole


def _remainder(call: Call) -> Interval:
    dividend, divisor = call.first, call.second
    largest = max(abs(divisor.low), abs(divisor.high))
    if isinstance(largest, int):
        largest -= 1
    if call.attributes.get("fmod"):
        largest = min(largest, max(abs(dividend.low), abs(dividend.high)))
        return Interval(-largest if dividend.low < 0 else 0, largest if dividend.high > 0 else 0)
    if divisor.low > 0 and dividend.low >= 0 and dividend.high < divisor.low:
        return dividend
    return Interval(-largest if divisor.low < 0 else 0, largest if divisor.high > 0 else 0)


def _clip(call: Call) -> Interval:
    """`min(max(x, low), high)`."""
    low = call.present(1) or Interval(-math.inf, -math.inf)
    high = call.present(2) or Interval(math.inf, math.inf)
    least, most = (max(value, bound) for value, bound in ((call.first.low, low.low), (call.first.high, low.high)))
    return Interval(min(least, high.low), min(most, high.high))


def _logarithm(call: Call) -> Interval:
    """Of positive numbers; the smallest is float64's."""
    low, high = (math.log(max(end, 5e-324)) if end < math.inf else end for end in (call.first.low, call.first.high))
    return Interval(low, high)


def _exponential(value: Number) -> Number:
    return math.exp(value) if value < 700 else math.inf


def _absolute(call: Call) -> Interval:
    low, high = abs(call.first.low), abs(call.first.high)
    return Interval(0 if call.first.low <= 0 <= call.first.high else min(low, high), max(low, high))


def _sum(call: Call) -> Interval:
    """Of any number of elements that one axis has."""
    return hull(0, _times(call.first.low, LARGEST_AXIS), _times(call.first.high, LARGEST_AXIS))


def _and(call: Call) -> Interval:
    """No larger than a mask that is not negative."""
    masks = [each.high for each in call.all if each.low >= 0]
    return Interval(0, min(masks)) if masks else EVERYTHING


def _or(call: Call) -> Interval:
    """Of numbers that are not negative no more bits than the longer one has."""
    if min(each.low for each in call.all) < 0 or not all(isinstance(each.high, int) for each in call.all):
        return EVERYTHING
    return Interval(0, (1 << max(int(each.high).bit_length() for each in call.all)) - 1)


RULES: dict[str, Rule] = {
    "Abs": _absolute,
    "Add": _corners(lambda left, right: left + right),
    "BitwiseAnd": _and,
    "BitwiseNot": _monotone(lambda value: -1 - value),
    "BitwiseOr": _or,
    "BitwiseXor": _or,
    "Ceil": _monotone(_whole(math.ceil)),
    "Clip": _clip,
    "Concat": lambda call: union(call.all),
    "CumSum": _sum,
    "Div": _quotient,
    "Exp": _monotone(_exponential),
    "Floor": _monotone(_whole(math.floor)),
    "Log": _logarithm,
    "Max": lambda call: Interval(max(each.low for each in call.all), max(each.high for each in call.all)),
    "Min": lambda call: Interval(min(each.low for each in call.all), min(each.high for each in call.all)),
    "Mod": _remainder,
    "Mul": _corners(_times),
    "Neg": _monotone(lambda value: -value),
    "OneHot": lambda call: call.input(2),
    "Pad": lambda call: union([call.first, *call.all[2:3]]),
    "Range": lambda call: union(call.all[:2]),
    "ReduceMax": lambda call: call.first,
    "ReduceMean": lambda call: call.first,
    "ReduceMin": lambda call: call.first,
    "ReduceSum": _sum,
    "Relu": lambda call: Interval(max(call.first.low, 0), max(call.first.high, 0)),
    "Round": _monotone(_whole(round)),
    "ScatterElements": lambda call: union([call.first, call.input(2)]),
    "ScatterND": lambda call: union([call.first, call.input(2)]),
    "Sigmoid": _bounded(0, 1),
    "Sign": _bounded(-1, 1),
    "Softmax": _bounded(0, 1),
    "Sub": _corners(lambda left, right: left - right),
    "Tanh": _bounded(-1, 1),
}
"""By operator. Whatever only moves elements needs no row."""
