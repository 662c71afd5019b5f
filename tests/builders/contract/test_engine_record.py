"""Which hosts run an engine: by what TensorRT's documentation says of versions and GPUs."""

from __future__ import annotations

import dataclasses

import pytest

from cleave.builders.contract.engine_record import (
    EngineRecord,
    Host,
    holds,
    reason_not_runnable,
)

ENGINE = EngineRecord("model.plan", "0" * 64, "11.1.0.106", "8.9", False, False, [{"batch": (1, 64)}])
COMPATIBLE = dataclasses.replace(ENGINE, version_compatible=True)
PORTABLE = dataclasses.replace(ENGINE, hardware_compatible=True)


@pytest.mark.parametrize(
    ("engine", "tensorrt", "runs"),
    [
        (ENGINE, "11.1.0.106", True),
        (ENGINE, "11.1.0.106.post1", True),
        (ENGINE, "11.1.0.107", False),
        (ENGINE, "11.1.1.106", False),
        (ENGINE, "10.13.3.9", False),
        (COMPATIBLE, "11.1.0.106", True),
        (COMPATIBLE, "11.2.0.1", True),
        (COMPATIBLE, "11.0.0.114", False),
        (COMPATIBLE, "12.0.0.1", False),
        (dataclasses.replace(COMPATIBLE, tensorrt="10.13.3.9"), "11.1.0.106", True),
        (dataclasses.replace(COMPATIBLE, tensorrt="8.6.1.6"), "11.1.0.106", False),
    ],
)
def test_versions_of_tensorrt(engine: EngineRecord, tensorrt: str, runs: bool) -> None:
    reason = reason_not_runnable(engine, Host(tensorrt, ("8.9",)))
    assert (reason is None) == runs
    if reason is not None:
        assert reason.startswith(f"an engine of TensorRT {tensorrt}, which is installed, got ")
        assert reason.endswith(f"one of {engine.tensorrt}")


@pytest.mark.parametrize(
    ("engine", "capabilities", "runs"),
    [
        (ENGINE, ("8.9",), True),
        (ENGINE, ("8.6",), False),
        (ENGINE, ("8.9", "9.0"), False),
        (PORTABLE, ("8.0",), True),
        (PORTABLE, ("8.9", "12.0"), True),
        (PORTABLE, ("7.5",), False),
    ],
)
def test_kinds_of_gpus(engine: EngineRecord, capabilities: tuple[str, ...], runs: bool) -> None:
    reason = reason_not_runnable(engine, Host(engine.tensorrt, capabilities))
    assert (reason is None) == runs
    if reason is not None:
        here, built_for = capabilities[-1], engine.compute_capability
        assert reason == f"an engine for compute capability {here}, a GPU's here, got one for {built_for}"


@pytest.mark.parametrize(
    ("sizes", "fits"),
    [
        ({"batch": 1, "history": 64}, True),
        ({"batch": 4, "history": 1}, True),
        ({"batch": 5, "history": 1}, False),
        ({"batch": 1, "history": 0}, False),
        ({"batch": 1}, True),
        ({"batch": 1, "candidates": 9}, True),
    ],
)
def test_a_profile_takes_sizes_within_its_bounds(sizes: dict[str, int], fits: bool) -> None:
    """Of an axis that only one of the two has, any."""
    assert holds({"batch": (1, 4), "history": (1, 64)}, sizes) == fits
