"""Values that random inputs seldom hold: models that hang on them are built right, and graphs that err are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor as Values
from torch import nn

from cleave.builders import Ranker, Tensor
from cleave.builders.cut.cut import Cut, cut_ranker
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.cut.proof import values as under_test
from cleave.builders.cut.proof.accepted import accepting
from cleave.builders.cut.proof.agreement import ParityError
from cleave.builders.cut.proof.ignored import ignored_inputs
from cleave.builders.cut.proof.prove import prove, referee_of
from cleave.builders.cut.proof.recorded import ExamplesError, read_requests
from cleave.builders.cut.proof.subject import subject_of_cut
from cleave.builders.cut.proof.truth import torch_outputs
from cleave.builders.cut.proof.values import NUM_UNUSUAL
from cleave.builders.export import exact_functions, torch_export
from cleave.builders.onnx_graph.random_inputs import Arrays
from tests.builders.cut.proof.subjects import subject_of_module
from tests.builders.cut.proof.value_models import (
    HASHED,
    NUM_ITEMS,
    TIMED,
    Hashed,
    LogOfGap,
    SessionStart,
    Timed,
    TotalGap,
    hashed,
    timed,
)

NOW_S = 1_700_000_000


def values_of(cut: Cut) -> under_test.Values:
    return under_test.Values(subject_of_cut(cut, referee_of(cut)))


def real_inputs(ranker: Ranker, unit: int, seed: int = 0) -> Arrays:
    """Three users as they are: ids of 64 bits or of the table, times of the last years in seconds or milliseconds."""
    rng = np.random.default_rng(seed)
    drawn: Arrays = {}
    for tensor in ranker.inputs:
        shape = (3, *tensor.shape({"history": 20, "candidates": 9}))
        if tensor.name.endswith("time"):
            ages = 2 ** rng.integers(0, 27, shape) - (rng.random(shape) < 0.3)
            drawn[tensor.name] = NOW_S * unit - ages * unit * tensor.name.startswith("history")
        else:
            wide = (-(2**62), 2**62) if ranker.name == "hashed" else (1, NUM_ITEMS)
            drawn[tensor.name] = rng.integers(*wide, shape)
    return drawn


@pytest.mark.parametrize("kind", [*TIMED, *HASHED])
def test_models_that_hang_on_large_or_edgy_values_are_built_right(kind: Any) -> None:
    cut = cut_ranker((timed if kind in TIMED else hashed)(kind().eval()))
    assert values_of(cut).unusual() == (NUM_UNUSUAL, ())
    parts = EncoderThenScorer(cut)
    for seed, unit in enumerate((1, 1000, 1_000_000)):
        inputs = real_inputs(cut.ranker, unit, seed)
        expected = torch_outputs(cut.ranker, inputs)["scores"]
        assert np.ptp(expected) > 1
        np.testing.assert_allclose(parts(inputs)["scores"], expected, atol=1e-5 * np.ptp(expected))


def refusal(ranker: Ranker) -> str:
    with pytest.raises(ParityError) as raised:
        values_of(cut_ranker(ranker)).unusual()
    return str(raised.value)


def test_logarithms_as_the_exporter_writes_them_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: each for name, each in exact_functions.TRANSLATIONS.items() if each is not exact_functions.log2}
    monkeypatch.setattr(torch_export, "TRANSLATIONS", kept)
    message = refusal(timed(LogOfGap().eval()))
    assert message.startswith("ranker 'timed': unusual values (")
    assert "_time " in message
    assert "): ONNX against torch (history " in message
    assert "the graph computes these values otherwise than the module: one is on the edge of a bucket" in message
    assert "or, if no request holds such values, say so: Tensor(..., low=, high=) for '" in message


@pytest.mark.parametrize("kind", [SessionStart, TotalGap])
def test_integers_that_onnx_runtime_compares_or_sums_wrongly_are_found(
    kind: type[Timed], monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_it_is(model: onnx.ModelProto) -> onnx.ModelProto:
        return model

    monkeypatch.setattr("cleave.builders.passes.exact_int64", as_it_is)
    assert refusal(timed(kind().eval())).startswith("ranker 'timed': unusual values (")


class OfItsOwnLogarithm(Timed):
    """What log2 is for is written as a quotient in the module, where torch itself puts 8 below 3."""

    def bucket(self, history_time: Values, request_time: Values) -> Values:
        gap = (request_time - history_time).abs().float() + 1
        return (torch.log(gap) / torch.log(torch.tensor(2.0)) + 1e-3).long()


def test_a_quotient_of_logarithms_off_the_edges_is_built() -> None:
    assert values_of(cut_ranker(timed(OfItsOwnLogarithm().eval()))).unusual()[0] == NUM_UNUSUAL


class Unbounded(Timed):
    """Not finite for what is far in the past, and for the future."""

    def forward(
        self, history_items: Values, history_time: Values, request_time: Values, candidate_items: Values
    ) -> Values:
        real = (history_items != 0).float()
        gap = (request_time.unsqueeze(1) - history_time).float()
        weight = torch.where(history_items != 0, torch.sqrt(gap), 0.0) + torch.exp(gap * 1e-3) * real
        user = (self.items(history_items) * weight.unsqueeze(-1)).sum(1)
        scores: Values = (self.items(candidate_items) * user.unsqueeze(1)).sum(-1)
        return scores


def test_scores_that_are_not_finite_are_not_compared() -> None:
    num_finite, warnings = values_of(cut_ranker(timed(Unbounded().eval()))).unusual()
    assert 0 < num_finite < NUM_UNUSUAL
    assert warnings == ()


class NeverFinite(Unbounded):
    def forward(
        self, history_items: Values, history_time: Values, request_time: Values, candidate_items: Values
    ) -> Values:
        scores = super().forward(history_items, history_time * 0, request_time * 0, candidate_items)
        small = (history_time.abs().amax(1) < 3) & (request_time.abs() < 3)
        return torch.where(small.unsqueeze(1), scores, torch.nan)


def test_where_no_unusual_score_is_finite_a_warning_says_what_to_declare() -> None:
    num_finite, (warning,) = values_of(cut_ranker(timed(NeverFinite().eval()))).unusual()
    assert num_finite == 0
    assert warning.startswith(
        "ranker 'timed': no unusual value was tried, as the module's scores of them are not finite;"
    )
    assert warning.endswith("say what requests hold: Tensor(..., low=, high=) for 'history_time', 'request_time'")


class OfTheHour(Timed):
    """Looks the hour up behind some arithmetic, so that no table can be read off the graph."""

    def bucket(self, history_time: Values, request_time: Values) -> Values:
        return torch.log2((request_time - history_time).clamp(min=1).float()).long()

    def __init__(self) -> None:
        super().__init__()
        self.hours = nn.Embedding(26, 1)

    def forward(self, history_items: Values, history_time: Values, hour: Values, candidate_items: Values) -> Values:
        scores = super().forward(history_items, history_time, hour * 3600, candidate_items)
        with_hour: Values = scores + self.hours(hour + 2)
        return with_hour


def test_what_a_module_takes_is_found_by_calling_it() -> None:
    ranker = dataclasses.replace(timed(OfTheHour().eval()), request=(Tensor("hour", "int64", ()),))
    highs = {tensor.name: tensor.high for tensor in accepting(ranker).inputs}
    assert highs["hour"] == 24
    assert highs["history_time"] is None
    assert values_of(cut_ranker(ranker)).unusual()[0] == NUM_UNUSUAL


def test_times_that_are_read_are_not_taken_for_ignored() -> None:
    """Of times of 0 and 1 no gap is above 1."""
    assert ignored_inputs(subject_of_module(timed(LogOfGap().eval()))) == ()


def test_declared_values_are_all_that_is_tried() -> None:
    """A module that goes wrong, in its own words, beyond what requests hold."""

    class Strict(LogOfGap):
        def bucket(self, history_time: Values, request_time: Values) -> Values:
            return torch.where(history_time < NOW_S - 100, -1, super().bucket(history_time, request_time))

    ranker = timed(Strict().eval(), low=NOW_S - 100, high=NOW_S)
    subject = subject_of_module(ranker)
    seen = [request.user for request in under_test.Values(subject)._unusual_requests()]
    assert len(seen) == NUM_UNUSUAL
    times = np.concatenate([user["history_time"].reshape(-1) for user in seen])
    assert times.min() == NOW_S - 100
    assert times.max() == NOW_S - 1


@pytest.fixture(scope="module")
def hashed_cut() -> Cut:
    return cut_ranker(hashed(Hashed().eval()))


def recorded(tmp_path: Path, *lines: Any) -> Path:
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def test_recorded_requests_are_proven(hashed_cut: Cut, tmp_path: Path) -> None:
    ids = [2**40 + 3, -5, 2**62, 7]
    line = {"user_id": "a", "history": {"history_items": ids}, "candidates": {"candidate_items": list(range(70))}}
    bare = {"history": [], "request": None, "candidates": [9, 2**61]}
    requests = read_requests(recorded(tmp_path, line, "", bare), hashed_cut.ranker)
    assert [request.user["candidate_items"].shape for request in requests] == [(1, 32), (1, 32), (1, 6), (1, 2)]
    assert requests[0].user["history_items"].tolist() == [ids]
    assert [request.where.rsplit(":", 1)[1] for request in requests] == ["1", "1", "1", "3"]
    proof = prove(hashed_cut, budget_s=0, recorded=requests)
    assert proof.num_recorded == 4
    assert "proof: 4 recorded requests" in proof.lines()


def test_a_recorded_request_that_is_scored_wrongly_is_named(hashed_cut: Cut, tmp_path: Path) -> None:
    narrow = subject_of_cut(hashed_cut, referee_of(hashed_cut))

    def as_int32(inputs: Arrays) -> Arrays:
        return whole({name: values.astype(np.int32).astype(np.int64) for name, values in inputs.items()})

    whole = narrow.served["whole model"]
    subject = dataclasses.replace(narrow, served={"whole model": as_int32})
    lines = [{"history": [item, 3], "candidates": [4, 5]} for item in (8, 2**40 + 3)]
    requests = read_requests(recorded(tmp_path, *lines), hashed_cut.ranker)
    with pytest.raises(ParityError) as raised:
        under_test.Values(subject).recorded(requests)
    message = str(raised.value)
    where = f"{tmp_path}/requests.jsonl:2 (history_items 3 to 1099511627779)"
    assert message.startswith(f"ranker 'hashed': {where}: ONNX against torch (history 2, ")
    assert "low=" not in message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", ":1: no JSON (Expecting property name"),
        ([1], ":1: expected an object of candidates, history, request, got list; write {"),
        ({"candidate": [1]}, ":1: expected an object of candidates, history, request, got candidate; write {"),
        ({"candidates": [1]}, ":1: hashed: history: "),
        ({"candidates": [1], "history": {"items": [1]}}, ":1: hashed: history: "),
        (
            {"candidates": [1.5], "history": [1]},
            ":1: hashed: candidates: candidate_items: type: expected int64, got float",
        ),
        ({"candidates": [], "history": [1]}, ":1: hashed: candidates: expected at least 1, got none"),
        ({"candidates": [1], "history": [1] * 65}, ":1: hashed: axis history: expected at most 64, got 65"),
        ({"candidates": [1], "history": [[1], [2, 3]]}, ":1: hashed: history: history_items: this is no array"),
    ],
)
def test_a_line_that_no_client_would_send_is_named(line: Any, expected: str, hashed_cut: Cut, tmp_path: Path) -> None:
    with pytest.raises(ExamplesError) as raised:
        read_requests(recorded(tmp_path, line), hashed_cut.ranker)
    assert str(raised.value).startswith(f"{tmp_path}/requests.jsonl{expected}")


def test_a_file_without_requests_is_refused(hashed_cut: Cut, tmp_path: Path) -> None:
    with pytest.raises(ExamplesError, match="expected at least one request, got none; write lines like"):
        read_requests(recorded(tmp_path, "", " "), hashed_cut.ranker)
    with pytest.raises(ExamplesError, match=r"--examples .*nothing.jsonl: .*No such file"):
        read_requests(tmp_path / "nothing.jsonl", hashed_cut.ranker)


def test_whole_numbers_are_floats_where_the_tensor_holds_floats(tmp_path: Path) -> None:
    ranker = hashed(Hashed())
    price = Tensor("price", "float32", (ranker.candidate_axis,))
    priced = dataclasses.replace(ranker, candidate=(*ranker.candidate, price))
    line = {"history": [1], "candidates": {"candidate_items": [3, 4], "price": [2, 5]}}
    (request,) = read_requests(recorded(tmp_path, line), priced)
    assert request.user["price"].dtype == np.float32
    assert request.user["price"].tolist() == [[2.0, 5.0]]
