"""What `cleave inspect` says, for machines and for people."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

import cleave.builders.cut.cut
from cleave.builders.cut.cut import Cut, split
from cleave.builders.predict.arms import flops_of_arms
from cleave.builders.reports.inspect import inspect_report
from cleave.cli import main
from tests.builders.graphs import graph, ranker
from tests.zoo_cuts import zoo_cut

SIZES = {"history": 6, "candidates": 5}


def test_the_report_for_machines(small_cut: Cut) -> None:
    report = json.loads(json.dumps(inspect_report(small_cut, SIZES).to_dict(), allow_nan=False))
    assert set(report["flops"]) == {"whole", "history_encoder", "item_tower", "candidate_scorer"}
    assert report["flops"]["history_encoder"] == 2 * 6 * 4 * 4 + 6 + 4
    assert report["flops"]["item_tower"] == 2 * 5 * 4 * 4
    assert set(report["ratio"]) == {"single_pass", "uncached", "cached"}
    assert report["arm_flops"]["per_candidate"] / report["arm_flops"]["cached"] == pytest.approx(
        report["ratio"]["cached"]
    )
    assert report["summary"] == [
        {"name": "ids_mask", "shape": [1, 6], "axes": ["1", "history"], "dtype": "bool"},
        {"name": "key", "shape": [4, 6], "axes": ["4", "history"], "dtype": "float32"},
        {"name": "kept_profile", "shape": [], "axes": [], "dtype": "float32"},
    ]
    assert report["summary_bytes"] == 6 + 4 * 6 * 4 + 4
    assert report["sizes"] == SIZES
    assert report["first_mix"]["user_inputs"] == ["events"]
    assert report["first_mix"]["candidate_inputs"] == ["features"]
    assert report["little_to_move"] is False
    assert report["uncounted_nodes"] == []


def test_the_report_for_people(small_cut: Cut) -> None:
    lines = str(inspect_report(small_cut, SIZES)).splitlines()
    assert lines[0] == "small, one request of one user: history 6, candidates 5"
    share = f"{202 / flops_of_arms(small_cut, SIZES)['uncached']:.1%}"
    assert any(line.split() == ["history_encoder", "202", share, "the", "user", "alone"] for line in lines)
    assert any(line.startswith("per_candidate") and line.endswith("1.00x") for line in lines)
    assert "summary: 106 B a user" in lines
    assert any(line.split() == ["key", "float32", "[4,", "history]"] for line in lines)
    assert any(
        line.startswith("User and candidate mix first in model/MatMul_5 (MatMul of module 'model')") for line in lines
    )
    assert not any("Almost nothing" in line for line in lines)


def test_almost_nothing_of_concat_can_be_moved() -> None:
    cut = zoo_cut("concat")
    sizes = cut.ranker.sizes("opt")
    report = inspect_report(cut, sizes)
    assert report.little_to_move
    text = str(report)
    assert "Almost nothing can be moved: 0.0" in text
    assert "User and candidate mix first in model/Concat" in text
    assert "it joins what is made of history_items, history_ratings with what is made of candidate_items." in text
    assert "to amortize it, mix later (see the model append)" in text


@pytest.mark.parametrize("name", ["append", "hstu", "vista", "lime_mha", "lime_xor"])
def test_much_of_the_other_models_can_be_moved(name: str) -> None:
    cut = zoo_cut(name)
    report = inspect_report(cut, cut.ranker.sizes("opt"))
    assert not report.little_to_move
    assert report.arm_flops["cached"] < report.arm_flops["uncached"] < report.arm_flops["per_candidate"]
    assert report.uncounted_nodes == ()


def test_what_is_not_counted_is_named_and_not_called_little() -> None:
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
    report = inspect_report(cut, SIZES)
    assert report.uncounted_nodes == ("model/ReduceSum_2", "recent/MatMul_1")
    assert not report.little_to_move
    assert "not counted (unknown operator or shape): model/ReduceSum_2, recent/MatMul_1" in str(report)


def test_a_scorer_that_only_looks_up_has_no_ratio() -> None:
    cut = split(
        graph("""
            mapped = MatMul(events, w)
            sums = ReduceSum<keepdims=0>(mapped, last)
            most = ReduceMax<keepdims=1>(sums, one)
            m = Shape(items)
            scores = Expand(most, m)
        """),
        ranker(),
    )
    report = inspect_report(cut, SIZES)
    assert report.ratio["cached"] is None
    assert any(line.split() == ["cached", "0", "-"] for line in str(report).splitlines())


@pytest.fixture
def inspected(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cleave inspect` with the session's cut of append instead of an export of its own."""
    monkeypatch.setattr(cleave.builders.cut.cut, "cut_ranker", lambda ranker: zoo_cut(ranker.name))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["inspect", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.usefixtures("inspected")
def test_inspect_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "append", "--history", "100", "--candidates", "50", "--json")
    report: dict[str, Any] = json.loads(out)
    assert code == 0
    assert report["sizes"] == {"history": 100, "candidates": 50}
    assert {"flops", "summary", "summary_bytes", "ratio"} <= set(report)
    assert report["flops"]["whole"] > report["flops"]["candidate_scorer"]
    assert report["weights"].startswith("trained by `cleave train append ")


@pytest.mark.usefixtures("inspected")
def test_inspect_as_text_at_opt(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "append", "--size", "layers=3")
    assert code == 0
    assert "\nweights: random (seed 0), as the zoo has no trained ones of these sizes\n" in out
    assert out.startswith("append, one request of one user: history 256, candidates 512\n")


@pytest.mark.usefixtures("inspected")
def test_inspect_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "append", "--gpu", "h100", "--precision", "float16")
    assert code == 0
    assert "predicted on H100; nothing was run on a GPU\n990 TFLOP/s in float16 products" in out
    assert "3 us a launch (assumed): NVIDIA H100 Tensor Core GPU data sheet" in out
    (row,) = re.findall(r"^cached .*B$", out, re.MULTILINE)
    assert row.split()[-4:] == ["128.2", "KiB", "46.0", "KiB"]
    assert re.search(r"^single_pass over per_candidate, throughput +1 to 4,096 +2 to 8,192$", out, re.MULTILINE)
    assert re.search(r"^the scorer takes longer than the encoder beyond [\d,]+ candidates$", out, re.MULTILINE)


@pytest.mark.usefixtures("inspected")
def test_inspect_on_a_gpu_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "append", "--gpu", "L4", "--json")
    roofline = json.loads(out)["roofline"]
    assert (roofline["machine"]["name"], roofline["precision"], roofline["machine"]["measured"]) == (
        "L4",
        "tf32",
        False,
    )
    arms = roofline["arms"]
    assert list(arms) == ["per_candidate", "single_pass", "uncached", "cached"]
    assert arms["cached"]["latency_ms"] == pytest.approx(sum(arms["cached"]["time"].values()))
    assert len(roofline["pays"]) == 2 * 2 * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["append", "--gpu", "T4"], "--gpu: expected one of A10, L4, L40S, A100, H100, got 'T4'; choose one of them"),
        (["append", "--gpu", "L4", "--precision", "int8"], "--precision: L4: expected one of tf32, float16, float32"),
        (["append", "--precision", "tf32"], "--precision: expected --gpu with it, got none; name a GPU"),
        (
            ["append", "--history", "5000"],
            "axis 'history': expected 1 to 4096, got 5000; choose a size inside, or widen",
        ),
        (["append", "--candidates", "0"], "axis 'candidates': expected 1 to 8192, got 0"),
        (["transformer"], "model 'transformer': not in the zoo (append, concat, "),
        (
            ["append", "--size", "depth=3"],
            "--size: append has no size 'depth'; its sizes are num_items, ",
        ),
    ],
)
def test_inspect_in_wrong_use(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("cleave inspect: ")
    assert message in err


def test_bytes_of_the_summary_are_those_of_its_arrays(small_cut: Cut) -> None:
    arrays = [np.zeros([size.at({"batch": 1, **SIZES}) for size in t.dims], t.dtype) for t in small_cut.summary]
    assert small_cut.summary_bytes(SIZES) == sum(array.nbytes for array in arrays)
