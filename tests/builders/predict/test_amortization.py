"""Where amortization pays, on machines whose answers can be worked out."""

from __future__ import annotations

import dataclasses

import pytest

from cleave.builders.cut.cut import split
from cleave.builders.predict.amortization import NEARLY, PAYS, Amortization, SizeRange, _range
from cleave.builders.predict.arms import flops_of_arms
from cleave.builders.predict.processors import GPUS, Processor
from cleave.builders.reports.roofline import roofline_report
from cleave.builders.spec import Axis
from tests.builders.graphs import graph, ranker
from tests.zoo_cuts import zoo_cut

SIZES = {"history": 256, "candidates": 128}
COMPUTES = Processor("computes", {"float32": 1e9}, 1e9, 1e15, None, 0.0, "this test")
"""Only FLOPs take time, so that ratios are those of FLOPs."""


@pytest.mark.parametrize(("least", "most"), [(3, 1000), (4, 999), (500, 1000), (3, 3)])
def test_ranges_are_exact_to_one(least: int, most: int) -> None:
    axis = Axis("a", min=3, opt=5, max=1000)
    assert _range(axis, lambda size: least <= size <= most) == SizeRange(least, most)
    assert _range(axis, lambda size: False) is None


def test_where_flops_alone_count_the_ratios_are_those_of_flops() -> None:
    cut = zoo_cut("append")
    answers = Amortization(cut, COMPUTES, SIZES)
    history, candidates = cut.ranker.axes
    found = answers.pays("cached", "single_pass", "throughput", candidates)
    assert found is not None
    assert found.least == 1
    edge = found.most
    assert edge < candidates.max
    arms = flops_of_arms(cut, {**SIZES, "candidates": edge})
    assert arms["single_pass"] / arms["cached"] == pytest.approx(PAYS, rel=0.01)
    first = answers.pays("single_pass", "per_candidate", "latency", candidates)
    assert first == SizeRange(2, candidates.max)
    assert answers.pays("single_pass", "per_candidate", "latency", history) == SizeRange(1, history.max)


def test_the_scorer_dominates_from_where_it_has_the_most_flops() -> None:
    cut = zoo_cut("append")
    most = Amortization(cut, COMPUTES, SIZES).balance()
    assert most is not None
    encoder = cut.flops["history_encoder"].at(SIZES)
    assert flops_of_arms(cut, {**SIZES, "candidates": most})["cached"] == pytest.approx(encoder, rel=0.03)


def test_launches_make_small_micro_batches_slow() -> None:
    cut = zoo_cut("append")
    assert Amortization(cut, COMPUTES, SIZES).micro_batch() == 1
    answers = Amortization(cut, dataclasses.replace(COMPUTES, launch_us=100.0), SIZES)
    size = answers.micro_batch()
    best = answers.candidates_per_s(cut.ranker.candidate_axis.max)
    assert answers.candidates_per_s(size) >= NEARLY * best > answers.candidates_per_s(size - 1)


def test_a_summary_over_a_slow_link_is_not_worth_keeping() -> None:
    cut = zoo_cut("append")
    linked = Amortization(cut, dataclasses.replace(COMPUTES, link_bytes_per_s=1e3), SIZES)
    assert linked.store_bytes_per_s() is None
    assert linked.pays("cached", "single_pass", "latency", cut.ranker.candidate_axis) is None
    near = Amortization(cut, COMPUTES, SIZES)
    saved_ms = near.ms("uncached", "latency") - near.ms("cached", "latency")
    rate = near.store_bytes_per_s()
    assert rate is not None
    assert cut.summary_bytes(SIZES) / rate * 1000 == pytest.approx(saved_ms)
    text = str(roofline_report(cut, linked.processor, SIZES))
    assert "never arrives sooner than one encoded anew" in text


def test_what_is_unknown_is_named() -> None:
    cut = split(
        graph("""
            [recent] few = Slice(events, zero, two, one)
            [recent] mapped = MatMul(few, w)
            vector = ReduceSum<keepdims=1>(mapped, one)
            joined = Mul(features, vector)
            scores = ReduceSum<keepdims=0>(joined, last)
        """),
        ranker(),
    )
    text = str(roofline_report(cut, GPUS["L4"], {"history": 6, "candidates": 5}))
    assert (
        "not in these figures (unknown operator or shape): model/ReduceSum_2, recent/MatMul_1, recent/Slice_0" in text
    )
