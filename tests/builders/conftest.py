"""What tests of several packages share: a cut that needs no export, and a folder of a user's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cleave.builders.cut.cut import Cut, split
from tests.builders.graphs import graph, ranker
from tests.builders.user_code.model_files import forgotten_imports

SMALL = """
    real = Greater(ids, two)
    mask = Unsqueeze(real, one)
    [key] keys = MatMul(events, w)
    transposed = Transpose<perm=[0,2,1]>(keys)
    [item] mapped = MatMul(features, w)
    weights = MatMul(mapped, transposed)
    [total] sums = ReduceSum<keepdims=0>(profile, last)
    biased = Where(mask, weights, zero_float)
    hour_sum = ReduceSum<keepdims=0>(hour, last)
    of_users = Mul(sums, hour_sum)
    column = Unsqueeze(of_users, one)
    read = ReduceSum<keepdims=0>(biased, last)
    scores = Add(read, column)
"""
"""Keeps keys, a mask and one number a user."""


@pytest.fixture(scope="session")
def small_cut() -> Cut:
    return split(graph(SMALL, zero_float=np.array(0, np.float32)), ranker())


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, a user's; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    with forgotten_imports(tmp_path):
        yield tmp_path
