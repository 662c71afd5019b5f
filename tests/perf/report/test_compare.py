from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from cleave.cli import main
from cleave.perf.errors import PerfError
from cleave.perf.report.compare import compare, noise_is_known
from cleave.perf.report.report import RunReport

RECORDED = Path(__file__).parents[1] / "recorded" / "report.json"
AT = "models", "append", "points", -1, "arms", "cached"


@pytest.fixture
def content() -> dict[str, Any]:
    """The JSON of a recorded report."""
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def report_of(content: dict[str, Any]) -> RunReport:
    return RunReport.from_json(json.dumps(content))


def scaled(content: dict[str, Any], factor: float) -> dict[str, Any]:
    """The report with another speed of the arm cached."""
    changed = copy.deepcopy(content)
    arm: Any = changed
    for key in AT:
        arm = arm[key]
    for figure in ("candidates_per_s", "ratio"):
        arm[figure] *= factor
        arm[f"{figure}_of_rounds"] = [factor * value for value in arm[f"{figure}_of_rounds"]]
    return changed


def test_a_report_is_the_same_as_itself(content: dict[str, Any]) -> None:
    changes = list(compare(report_of(content), report_of(content)))
    assert {change.arm for change in changes} == {"per_candidate", "single_pass", "uncached", "cached"}
    assert not any(change.slower or change.faster for change in changes)


@pytest.mark.parametrize(("factor", "verdict"), [(0.3, "SLOWER"), (3.0, "faster")])
def test_what_changed_beyond_the_noise_is_said(content: dict[str, Any], factor: float, verdict: str) -> None:
    said = [
        str(change)
        for change in compare(report_of(content), report_of(scaled(content, factor)))
        if change.slower or change.faster
    ]
    assert [line[:6] for line in said] == [verdict] * 2
    assert all("append, n = " in line and "cached: " in line for line in said)


def test_a_change_within_the_noise_is_none(content: dict[str, Any]) -> None:
    changed = scaled(content, 1.0)
    rounds = changed["models"]["append"]["points"][-1]["arms"]["cached"]["candidates_per_s_of_rounds"]
    rounds[0] *= 0.1
    assert not any(change.slower for change in compare(report_of(content), report_of(changed)))


def test_between_machines_only_ratios_are_compared(content: dict[str, Any]) -> None:
    other = copy.deepcopy(content)
    other["machine"]["processor"] = "another one"
    assert {change.figure for change in compare(report_of(content), report_of(other))} == {"ratio"}


def test_reports_with_nothing_in_common_are_refused(content: dict[str, Any]) -> None:
    other = {**content, "models": {"other": content["models"]["append"]}}
    with pytest.raises(PerfError, match="--compare: expected models, points and arms that both reports have"):
        list(compare(report_of(content), report_of(other)))


def test_one_round_tells_no_noise(content: dict[str, Any]) -> None:
    assert noise_is_known(report_of(content))
    one = scaled(content, 1.0)
    one["models"]["append"]["points"][-1]["arms"]["cached"]["candidates_per_s_of_rounds"] = [1.0]
    assert not noise_is_known(report_of(content), report_of(one))


def test_the_command_fails_if_anything_is_slower(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = tmp_path / "slower.json"
    slower.write_text(json.dumps(scaled(content, 0.3)))
    assert main(["bench", "--compare", str(RECORDED), str(slower)]) == 1
    assert "SLOWER  append" in capsys.readouterr().out
    assert main(["bench", "--compare", str(slower), str(RECORDED)]) == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0}', "\\udcff"])
def test_what_is_no_report_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    file.write_text(text)
    assert main(["bench", "--compare", str(RECORDED), str(file)]) == 2
    assert f"{file}: expected a report of" in capsys.readouterr().err
