"""Finds where amortization pays on a processor: for which sizes which arm is worth having, by the roofline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from cleave.builders.cut.cut import Cut
from cleave.builders.names import BATCH, CANDIDATE_SCORER, HISTORY_ENCODER
from cleave.builders.predict.arms import ARMS
from cleave.builders.predict.processors import Processor
from cleave.builders.predict.roofline import Time, predict_arm, time_of_part
from cleave.builders.spec import Axis

PAYS = 1.1
"""An arm must be this many times as fast as the simpler one to be worth having."""
NEARLY = 0.9
"""A micro-batch is large enough when it reaches this share of the best throughput."""
STEPS = tuple((arm.name, arm.simpler) for arm in ARMS.values() if arm.simpler is not None)
"""Pairs of an arm and the simpler one: amortized over the candidates of a request, then over the requests of a user."""

Basis = Literal["latency", "throughput"]
"""Whether one request on an idle processor counts, launches included, or a processor that always has others to do."""
BASES: tuple[Basis, ...] = ("latency", "throughput")


@dataclass(frozen=True)
class SizeRange:
    """The least and the largest size of an axis for which something holds."""

    least: int
    most: int


class Amortization:
    """Answers for one cut on one processor; all sizes lie within the ranker's axes.

    Args:
        sizes: of every axis; a question about one axis leaves the others there.
        precision: of matrix products, its own by default.

    Raises:
        ProcessorError: there is no such precision.
    """

    def __init__(self, cut: Cut, processor: Processor, sizes: Mapping[str, int], precision: str | None = None) -> None:
        self.cut = cut
        self.processor = processor
        self.sizes = dict(sizes)
        self.precision = processor.checked_precision(precision)

    def ms(self, arm: str, basis: Basis, **sizes: int) -> float:
        """Milliseconds of a request in one arm, with other sizes where given."""
        prediction = predict_arm(ARMS[arm], self.cut, self.processor, {**self.sizes, **sizes}, self.precision)
        return prediction.latency_ms if basis == "latency" else prediction.busy_ms

    def pays(self, arm: str, simpler: str, basis: Basis, axis: Axis) -> SizeRange | None:
        """For which sizes of an axis an arm is at least `PAYS` times as fast as a simpler one."""
        return _range(
            axis,
            lambda size: (
                self.ms(arm, basis, **{axis.name: size}) * PAYS <= self.ms(simpler, basis, **{axis.name: size})
            ),
        )

    def balance(self) -> int | None:
        """The most candidates for which the encoder keeps a busy processor longer than the scorer; None if not one.

        Up to there a kept summary saves half of the work or more; beyond, the scorer dominates.
        """
        axis = self.cut.ranker.candidate_axis
        encoder = self.encoder_ms()
        holds = _range(axis, lambda size: self._part_time(CANDIDATE_SCORER, {axis.name: size}).limit_ms <= encoder)
        return None if holds is None else holds.most

    def encoder_ms(self) -> float:
        """The milliseconds that the encoder keeps a busy processor."""
        return self._part_time(HISTORY_ENCODER, {}).limit_ms

    def summary_link_ms(self) -> float:
        """The milliseconds that the summary takes from the host to the device; 0 where these are one."""
        rate = self.processor.link_bytes_per_s
        return 0.0 if rate is None else self.cut.summary_bytes(self.sizes) / rate * 1000

    def _part_time(self, part: str, sizes: Mapping[str, int]) -> Time:
        at = {**self.sizes, **sizes, BATCH: 1}
        return time_of_part(self.cut.parts[part].kernels, self.processor, self.precision, at)

    def store_bytes_per_s(self) -> float | None:
        """The least rate of a store at which a kept summary arrives sooner than one encoded anew; None if at none."""
        saved_ms = self.ms("uncached", "latency") - self.ms("cached", "latency")
        return self.cut.summary_bytes(self.sizes) / saved_ms * 1000 if saved_ms > 0 else None

    def candidates_per_s(self, micro_batch: int) -> float:
        """The throughput of the scorer alone on one stream that takes so many candidates a call: launches count."""
        time = self._part_time(CANDIDATE_SCORER, {self.cut.ranker.candidate_axis.name: micro_batch})
        return micro_batch / time.total_ms * 1000

    def micro_batch(self) -> int:
        """The fewest candidates of a call of the scorer that reach `NEARLY` of the throughput with the most."""
        axis = self.cut.ranker.candidate_axis
        enough = NEARLY * self.candidates_per_s(axis.max)
        found = _range(axis, lambda size: self.candidates_per_s(size) >= enough)
        assert found is not None, "the most candidates reach it"
        return found.least


def _range(axis: Axis, holds: Callable[[int], bool]) -> SizeRange | None:
    """The first and the last size that it holds for: found among powers of two, then exactly next to these.

    It need not hold for every size between, and what holds between two powers of two only is not found.
    """
    sizes = sorted({axis.min, axis.max, *(1 << power for power in range(axis.min.bit_length(), axis.max.bit_length()))})
    true = [place for place, size in enumerate(sizes) if holds(size)]
    if not true:
        return None
    first, last = true[0], true[-1]
    least = sizes[first] if first == 0 else _edge(sizes[first], sizes[first - 1], holds)
    most = sizes[last] if last == len(sizes) - 1 else _edge(sizes[last], sizes[last + 1], holds)
    return SizeRange(least, most)


def _edge(holding: int, failing: int, holds: Callable[[int], bool]) -> int:
    """The size next to where it stops to hold, on the way from one to the other."""
    while abs(holding - failing) > 1:
        middle = (holding + failing) // 2
        holding, failing = (middle, failing) if holds(middle) else (holding, middle)
    return holding
