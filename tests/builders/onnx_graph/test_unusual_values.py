"""Unusual values: within their bounds and types, of all magnitudes, and often on edges."""

from __future__ import annotations

import numpy as np
import pytest

from cleave.builders import Axis, Tensor
from cleave.builders.onnx_graph.random_inputs import AnyArray
from cleave.builders.onnx_graph.unusual_values import KINDS, NEIGHBOURS, NOW_S, draw_unusual

AXIS = Axis("history", min=1, opt=8, max=64)


def drawn(tensor: Tensor, kind: int = 0, shape: tuple[int, ...] = (20, 50), num: int = 40) -> AnyArray:
    return np.concatenate([draw_unusual(tensor, shape, kind, np.random.default_rng(seed)) for seed in range(num)])


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8", "float32", "float16", "bool"])
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_values_are_of_their_type(dtype: str, kind: int) -> None:
    values = drawn(Tensor("values", dtype, (AXIS,)), kind, num=5)
    assert values.dtype == np.dtype(dtype)
    assert np.isfinite(values).all()


@pytest.mark.parametrize(("low", "high"), [(None, 7), (-3, 4), (NOW_S - 500, NOW_S), (-(2**63), 2**63)])
def test_declared_integers_are_within_their_bounds_and_at_both_ends(low: int | None, high: int) -> None:
    values = drawn(Tensor("values", "int64", (AXIS,), low=low, high=high), num=200)
    assert values.min() == (low or 0)
    assert values.max() == high - 1


def test_declared_floats_are_within_their_bounds() -> None:
    values = drawn(Tensor("values", "float32", (AXIS,), low=-0.25, high=3.0))
    assert values.min() == -0.25
    assert 2.9 < values.max() <= 3.0
    assert {0.0, 0.5, 1.0, 2.0} <= set(values.reshape(-1).tolist())


def test_integers_of_which_nothing_is_known_are_of_all_magnitudes() -> None:
    tensor = Tensor("values", "int64", (AXIS,))
    kinds = {name: drawn(tensor, place) for place, name in enumerate(KINDS)}
    assert (kinds["small"].min(), kinds["small"].max()) == (0, 99)
    assert kinds["any"].min() < -(2**60)
    assert kinds["any"].max() > 2**60
    assert {2**31, 2**31 - 1, -(2**40), 10**12, 2**62} <= set(kinds["edges"].reshape(-1).tolist())
    assert abs(np.median(kinds["seconds"]) - NOW_S) < 2**30
    assert abs(np.median(kinds["milliseconds"]) - NOW_S * 1000) < 2**30 * 1000


def test_differences_from_the_time_of_a_request_are_on_edges() -> None:
    """As gaps between an event and the request."""
    found: set[int] = set()
    for seed in range(400):
        rng = np.random.default_rng(seed)
        for kind in range(len(KINDS)):
            events = draw_unusual(Tensor("event", "int64", (AXIS,)), (1, 40), kind, rng)
            request = draw_unusual(Tensor("request", "int64", ()), (1,), kind, rng)
            found.update((request[:, None] - events).reshape(-1).tolist())
    edges = NEIGHBOURS[NEIGHBOURS < 2**30]
    assert np.isin(edges, list(found)).all()


def test_floats_are_of_all_magnitudes_and_often_whole_or_half() -> None:
    values = np.abs(drawn(Tensor("values", "float32", (AXIS,)), num=100))
    assert values.max() > 1000
    assert 0 < values[values > 0].min() < 1e-3
    assert (values % 0.5 == 0).mean() > 0.3
