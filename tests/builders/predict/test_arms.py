"""The one table of arms: what reads it, and that a row of it is an arm everywhere."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from cleave.builders.cut.cut import Cut
from cleave.builders.predict import arms, roofline
from cleave.builders.predict.arms import (
    ARMS,
    BASELINE,
    DEFAULT,
    TRITON_ARMS,
    Arm,
    flops_of_arms,
    network_bytes,
    ratios,
)
from cleave.builders.predict.processors import GPUS
from cleave.perf.arms import arm_named

SIZES = {"history": 6, "candidates": 5}


def test_rows_name_rows_and_the_default_is_the_cheapest_on_triton(small_cut: Cut) -> None:
    for name, arm in ARMS.items():
        assert arm.name == name
        assert {each for each in (arm.simpler, arm.on_miss) if each is not None} <= set(ARMS)
        assert set(arm.parts) <= set(small_cut.parts)
    flops = flops_of_arms(small_cut, SIZES)
    assert list(flops) == sorted(flops, key=flops.__getitem__, reverse=True)
    assert (next(iter(flops)), list(flops)[-1]) == (BASELINE, DEFAULT)


def test_arms_look_different() -> None:
    for look in ("marker", "shape", "colours"):
        assert len({getattr(arm, look) for arm in ARMS.values()}) == len(ARMS)


def test_ratios_are_of_the_baseline() -> None:
    assert ratios({"per_candidate": 1000, "single_pass": 100, "cached": 0}) == {
        "single_pass": 10,
        "cached": float("inf"),
    }


def test_a_new_arm_is_a_row(small_cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here one that encodes on every request and sends no history."""
    encodes = Arm(
        "encodes",
        "_encodes",
        ("history_encoder",),
        "row_and_user_id",
        "history encoder",
        "p",
        "pentagon",
        ("#000", "#fff"),
    )
    for table in (arms.ARMS, arms.TRITON_ARMS):
        monkeypatch.setitem(table, encodes.name, encodes)
    predicted = roofline.predict(small_cut, GPUS["L4"], SIZES)
    assert list(predicted) == [*TRITON_ARMS]
    assert predicted["encodes"].kernels == len(small_cut.parts["history_encoder"].kernels.spelled_out)
    assert predicted["encodes"].network_bytes == predicted["cached"].network_bytes
    assert flops_of_arms(small_cut, SIZES)["encodes"] == small_cut.flops["history_encoder"].at(SIZES)
    assert arm_named("encodes") is encodes


def test_bytes_are_those_of_what_is_sent(small_cut: Cut) -> None:
    """A history for each candidate, one, or none."""
    once, by_id, repeated = (
        network_bytes(dataclasses.replace(ARMS[BASELINE], sent=sent), small_cut.ranker, SIZES)
        for sent in ("row", "row_and_user_id", "row_per_candidate")
    )
    history = once - by_id
    assert history > 0
    assert repeated - once == 4 * (history + 4 * 4)


def test_the_table_loads_nothing_heavy() -> None:
    script = "import sys, cleave.builders.predict.arms; print({'torch', 'onnx', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
