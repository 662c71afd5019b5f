from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cleave.builders.contract.location import parse_sizes
from cleave.builders.load import load_ranker
from cleave.perf.errors import PerfError
from cleave.perf.workload.lengths import Fixed, length_from_toml
from cleave.perf.workload.traffic import draw_traffic
from cleave.perf.workload.workload import load_workload, workload_from_dict, workload_names

CONTENT: dict[str, Any] = {
    "description": "a test",
    "seed": 1,
    "models": ["append"],
    "arms": ["per_candidate", "cached"],
    "history": [16, 64],
    "candidates": 32,
    "requests": {"default": 10, "per_candidate": 1},
}


@pytest.mark.parametrize("name", workload_names())
def test_every_workload_that_comes_with_cleave_is_of_sizes_that_its_models_take(name: str) -> None:
    workload = load_workload(name)
    assert workload.name == name
    for model in workload.models:
        ranker = load_ranker(model, parse_sizes(workload.sizes.get(model, "")))
        for point in workload.points():
            assert draw_traffic(workload, point, ranker, 2).requests


def test_those_of_the_papers_are_there() -> None:
    assert {"smoke", "paper_hertel", "paper_lime", "paper_vista", "mixed_traffic"} <= set(workload_names())


def test_points_are_the_product_of_the_lists() -> None:
    workload = workload_from_dict("test", {**CONTENT, "cached_share": [0, 1], "concurrency": 2, "rate_per_s": 5})
    points = list(workload.points())
    assert len(points) == 2 * 1 * 2 * 2
    assert str(points[0]) == "n = 16, m = 32, 0% cached, 2 at a time"
    assert str(points[-1]) == "n = 64, m = 32, 100% cached, 5 a second"


def test_arms_have_numbers_of_requests_of_their_own() -> None:
    workload = workload_from_dict("test", CONTENT)
    assert [workload.requests_of(arm) for arm in ("per_candidate", "cached")] == [1, 10]


def test_the_command_line_changes_models_arms_and_rounds() -> None:
    thresholds = ["cached >= 5 x per_candidate", "hit_rate >= 1"]
    workload = workload_from_dict("test", {**CONTENT, "thresholds": thresholds}).with_(
        ["vista"], "width=64", ["cached"], 7
    )
    assert (workload.models, workload.arms, workload.rounds) == (("vista",), ("cached",), 7)
    assert workload.sizes == {"vista": "width=64"}
    assert [threshold.text for threshold in workload.thresholds] == ["hit_rate >= 1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sede": 1}, "workload 'test': sede: expected one of arms, cached_share"),
        ({"seed": "one"}, "workload 'test': seed: expected a whole number of at least 0, got 'one'"),
        ({"cached_share": [0.5, 90]}, "cached_share: expected a number of at least 0 and at most 1, got 90"),
        ({"rounds": True}, "rounds: expected a whole number of at least 1, got True"),
        ({"models": []}, r"models: expected at least one value, got \[\]"),
        ({"requests": 5}, "requests: expected a table, got 5"),
        ({"requests": {"cached": 5}}, "requests: expected an entry `default`"),
        ({"history": "long"}, "history: expected a whole number of at least 1, or a distribution"),
        ({"history": {"distribution": "uniform", "low": 3}}, "history: uniform: .*'low'"),
        ({"thresholds": ["cached is fast"]}, "thresholds: expected a line such as 'cached >= 500 x per_candidate'"),
    ],
)
def test_what_no_workload_can_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PerfError, match=message):
        workload_from_dict("test", {**CONTENT, **change})


def test_what_is_missing_is_said() -> None:
    with pytest.raises(PerfError, match="workload 'test': seed: expected a value, got none"):
        workload_from_dict("test", {key: value for key, value in CONTENT.items() if key != "seed"})


def test_an_unknown_workload_is_refused() -> None:
    with pytest.raises(PerfError, match=r"workload 'smok': expected one of .*smoke"):
        load_workload("smok")


def test_lengths_stay_within_their_bounds() -> None:
    rng = np.random.default_rng(0)
    lognormal = length_from_toml("history", {"distribution": "lognormal", "median": 20, "sigma": 2, "max": 100})
    uniform = length_from_toml("history", {"distribution": "uniform", "min": 3, "max": 5})
    assert {uniform.draw(rng) for _ in range(100)} == {3, 4, 5}
    drawn = [lognormal.draw(rng) for _ in range(1000)]
    assert (min(drawn), max(drawn)) == (1, 100)
    assert 15 < np.median(drawn) < 25
    assert length_from_toml("history", 7) == Fixed(7)
