from __future__ import annotations

import pytest

from cleave.builders.predict.processors import Processor
from cleave.perf.machine import peaks as machine
from cleave.perf.machine.peaks import best_of, measure


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products use wider units than anything else, and the launch of a node takes less than a millisecond."""
    monkeypatch.setattr(machine, "SECONDS_EACH", 0.05)
    found = measure(threads=1)
    assert found.measured
    assert found.name.endswith("1 thread")
    assert found.matrix_flops_per_s["float32"] > found.vector_flops_per_s > 0
    assert found.memory_bytes_per_s > 1e8
    assert found.link_bytes_per_s is None
    assert 0 < found.launch_us < 1000


def test_the_best_of_two_measurements_is_the_limit() -> None:
    undisturbed = Processor("here", {"float32": 200.0}, 20.0, 10.0, None, 1.0, "measured", measured=True)
    busy = Processor("here", {"float32": 100.0}, 25.0, 5.0, None, 3.0, "measured", measured=True)
    expected = Processor("here", {"float32": 200.0}, 25.0, 10.0, None, 1.0, "measured", measured=True)
    assert best_of(undisturbed, busy) == best_of(busy, undisturbed) == expected
