"""A build from a name to a cut that is proven, narrowed where that is asked for."""

from __future__ import annotations

import pytest

from cleave.builders import pipeline
from cleave.builders.contract.proof import Proof
from cleave.builders.cut.cut import Cut
from cleave.builders.pipeline import BuildOptions, build


@pytest.fixture
def built_of_small(small_cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is built is a small graph, which no module of torch stands behind."""
    monkeypatch.setattr(pipeline, "load_ranker", lambda name, sizes: small_cut.ranker)
    monkeypatch.setattr(pipeline, "cut_ranker", lambda ranker: small_cut)
    monkeypatch.setattr(pipeline, "prove", lambda cut, **given: Proof(0, 0, {}, 0.0, 0.0, 0.0, {}))


@pytest.mark.usefixtures("built_of_small")
def test_what_fewer_bits_cost_is_measured(small_cut: Cut) -> None:
    evaluated: list[tuple[Cut, Cut]] = []

    def evaluate(wide: Cut, narrow: Cut) -> tuple[float, float]:
        evaluated.append((wide, narrow))
        return 0.8, 0.7

    built = build(BuildOptions("small.py:ranker", summary_dtype="float16"), evaluate)
    assert evaluated == [(small_cut, built.cut)]
    assert built.narrowed is not None
    assert built.narrowed.test_auc == (0.8, 0.7)
    sizes = small_cut.ranker.sizes("opt")
    assert built.narrowed.summary_bytes == (small_cut.summary_bytes(sizes), built.cut.summary_bytes(sizes))
    assert built.cut.summary_bytes(sizes) < small_cut.summary_bytes(sizes)
    assert 0 < built.narrowed.score_difference < 0.1


@pytest.mark.usefixtures("built_of_small")
def test_a_build_in_float32_costs_nothing(small_cut: Cut) -> None:
    built = build(BuildOptions("small.py:ranker"), lambda wide, narrow: pytest.fail("nothing is narrower"))
    assert built.cut is small_cut
    assert built.narrowed is None
