from __future__ import annotations

from pathlib import Path

import pytest

from cleave.serving.errors import StoppingError
from cleave.serving.gate import Gate, close_gate, is_anything_under_way
from cleave.serving.variables import GATE_VARIABLE


def test_a_closed_gate_lets_in_what_was_queued_and_refuses_the_rest(tmp_path: Path) -> None:
    gate = Gate("encoder", tmp_path)
    assert not gate.is_closed
    close_gate(tmp_path, {"encoder": 2, "other": 0})
    assert gate.is_closed
    gate.let_in()
    gate.let_in()
    for _ in range(3):
        with pytest.raises(StoppingError, match="the server stops; ask another"):
            gate.let_in()


def test_a_model_that_the_closed_gate_does_not_name_takes_everything(tmp_path: Path) -> None:
    gate = Gate("scorer", tmp_path)
    close_gate(tmp_path, {"encoder": 0})
    for _ in range(3):
        gate.let_in()


def test_something_is_under_way_until_every_request_was_answered(tmp_path: Path) -> None:
    gates = [Gate("a", tmp_path), Gate("b", tmp_path)]
    assert not is_anything_under_way(tmp_path)
    gates[0].enter()
    with gates[1].under_way():
        gates[0].enter()
        gates[0].leave()
        assert is_anything_under_way(tmp_path)
    assert is_anything_under_way(tmp_path)
    gates[0].leave()
    assert not is_anything_under_way(tmp_path)


def test_a_process_without_a_server_of_ours_has_an_open_gate(tmp_path: Path) -> None:
    gate = Gate.of_server("a", {})
    with gate.under_way():
        assert not gate.is_closed
    close_gate(tmp_path, {"a": 0})
    assert Gate.of_server("a", {GATE_VARIABLE: str(tmp_path)}).is_closed
