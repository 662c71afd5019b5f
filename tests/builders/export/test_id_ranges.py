"""The ids that a spec leaves open are read from the tables that they look up."""

from __future__ import annotations

import dataclasses

import numpy as np

from cleave.builders import Ranker, Tensor
from cleave.builders.export.id_ranges import with_id_ranges
from tests.builders.graphs import graph, ranker

IDS_AND_ITEMS = """
    known = Clip(ids, zero_scalar)
    column = Unsqueeze(known, last)
    flat = Squeeze(column, last)
    first = Gather(table, flat)
    second = Gather(short_table, ids)
    of_items = Gather<axis=1>(wide_table, items)
    scores = ReduceSum<keepdims=0>(features, last)
"""


def with_open_ids(spec: Ranker) -> Ranker:
    def opened(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(dataclasses.replace(tensor, high=None) for tensor in tensors)

    return dataclasses.replace(spec, user=opened(spec.user), candidate=opened(spec.candidate))


def ids_of(spec: Ranker) -> dict[str, float | None]:
    return {tensor.name: tensor.high for tensor in spec.inputs if tensor.dtype == "int64"}


def test_ids_are_those_of_the_smallest_table_that_they_look_up() -> None:
    model = graph(
        IDS_AND_ITEMS,
        zero_scalar=np.array(0),
        short_table=np.ones((7, 2), np.float32),
        wide_table=np.ones((2, 5), np.float32),
    )
    opened = with_open_ids(ranker())
    resolved = with_id_ranges(opened, model)
    assert ids_of(opened) == {"ids": None, "items": None}
    assert ids_of(resolved) == {"ids": 7, "items": 5}
    assert with_open_ids(resolved) == opened, "nothing else of the ranker changes"
    assert with_id_ranges(ranker(), model) == ranker(), "what the spec says stands"


def test_an_input_that_looks_up_no_table_stays_open() -> None:
    model = graph("scores = ReduceSum<keepdims=0>(features, last)")
    assert with_id_ranges(with_open_ids(ranker()), model) == with_open_ids(ranker())
