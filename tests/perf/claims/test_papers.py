"""The measuring that the claims rest on; the claims themselves are measured by `cleave bench --claims`."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from cleave.builders.export.torch_export import OPSET
from cleave.builders.onnx_graph.random_inputs import Arrays
from cleave.perf.claims import papers
from cleave.perf.claims.papers import MIB


def test_calls_take_turns_and_the_first_of_each_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now, called = 0.0, list[int]()

    def call(key: int) -> None:
        nonlocal now
        called.append(key)
        now += 100 if called.count(key) == 1 else key * called.count(key)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert papers._medians({1: partial(call, 1), 2: partial(call, 2)}, 3) == {1: 3000, 2: 6000}
    assert called == [1, 2, 1, 2, 2, 1, 1, 2]


def test_the_memory_of_a_run_is_that_of_its_process(tmp_path: Path) -> None:
    inputs: Arrays = {"x": np.ones((1, 1 << 24), np.float32)}
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "n"])
    graph = helper.make_graph([helper.make_node("Exp", ["x"], ["y"])], "exp", [shape], [output])
    file = tmp_path / "exp.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), file)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the tests before
    idle, peak = papers._peak_memory(file, inputs)
    # The output is 64: larger than what malloc may take from memory that an earlier test left behind.
    assert 60 * MIB < peak - idle < 200 * MIB
