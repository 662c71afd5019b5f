from __future__ import annotations

import json
from pathlib import Path

import pytest

from cleave.perf.analyzer.output import Sent, Stages, read_output, read_requests, read_stages
from cleave.perf.errors import PerfError

RECORDED = Path(__file__).parents[1] / "recorded"


def test_the_model_and_its_composing_models_are_read() -> None:
    measured = read_output(RECORDED / "measured.csv", RECORDED / "requests.json")
    assert measured.model == Stages(16, 3, 2, 128, 3170, 223)
    assert set(measured.composing) == {"append_candidate_scorer", "append_history_encoder", "append_summary_cache"}
    assert measured.composing["append_history_encoder"].server_us == 611 + 40 + 1966 + 74


def test_requests_are_in_the_order_in_which_they_were_sent() -> None:
    first, second = read_requests(RECORDED / "requests.json")
    assert first == Sent(1795317282779831406, 1795317282791831406)
    assert second.sent_ns > first.answered_ns


def test_several_loads_in_one_csv_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "measured.csv"
    text = (RECORDED / "measured.csv").read_text()
    file.write_text(text + text.splitlines()[1] + "\n")
    with pytest.raises(PerfError, match=r"measured.csv: expected one row with Client Send"):
        read_stages(file)


@pytest.mark.parametrize("text", ["", "Concurrency\n1\n", "\0"])
def test_another_csv_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "measured.csv"
    file.write_text(text)
    with pytest.raises(PerfError, match=r"measured.csv: expected one row"):
        read_stages(file)


@pytest.mark.parametrize("answers", [[], [1, 2]])
def test_a_request_without_exactly_one_answer_is_refused(answers: list[int], tmp_path: Path) -> None:
    file = tmp_path / "requests.json"
    file.write_text(json.dumps({"experiments": [{"requests": [{"timestamp": 0, "response_timestamps": answers}]}]}))
    with pytest.raises(PerfError, match=r"requests.json: expected one experiment whose requests have one answer each"):
        read_requests(file)


def test_a_missing_export_is_said(tmp_path: Path) -> None:
    with pytest.raises(PerfError, match="No such file"):
        read_requests(tmp_path / "requests.json")
