"""Item tables: the scorer with a table scores as the whole model, for items in it, beside it, and both at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

from cleave.builders.cut.cut import Cut
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.cut.item_table import ItemTableError, id_tensor, split_item_tower, with_item_table
from cleave.builders.cut.proof.agreement import ParityError
from cleave.builders.cut.proof.item_table import check_item_table
from cleave.builders.cut.proof.prove import referee_of
from cleave.builders.onnx_graph.operators import operator
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays, draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.spec import Tensor
from cleave.builders.zoo import ZOO
from tests.zoo_cuts import NUM_ITEMS, zoo_cut

TOLERANCE = 1e-5
IN_TABLE = 40

every_model = pytest.mark.parametrize("name", ZOO)


def catalogue(cut: Cut, first: int = 1) -> Arrays:
    sizes = {"history": 1, "candidates": IN_TABLE}
    inputs = draw_inputs(cut.ranker, sizes, 1, np.random.default_rng(0))
    items = {tensor.name: inputs[tensor.name][0] for tensor in cut.ranker.candidate}
    return items | {"candidate_items": np.arange(first, first + IN_TABLE)}


def requests(cut: Cut, items: Arrays, ids: AnyArray) -> Arrays:
    """Requests for these ids [B, M] with the catalogue's features where it has the item."""
    sizes = {"history": 9, "candidates": ids.shape[1]}
    inputs = draw_inputs(cut.ranker, sizes, len(ids), np.random.default_rng(1), padded=True)
    known = (ids >= 1) & (ids <= IN_TABLE)
    genres = items["candidate_genres"][np.clip(ids - 1, 0, IN_TABLE - 1)]
    inputs["candidate_genres"] = np.where(known[..., None], genres, inputs["candidate_genres"])
    return inputs | {"candidate_items": ids}


@every_model
@pytest.mark.parametrize(
    ("low", "high"), [(1, IN_TABLE + 1), (-5, 10**6), (IN_TABLE + 1, 10**12)], ids=["known", "both", "unknown"]
)
def test_scores_are_those_of_the_whole_model(name: str, low: int, high: int) -> None:
    cut = zoo_cut(name)
    items = catalogue(cut)
    tabled = with_item_table(cut, items)
    parts = EncoderThenScorer(tabled)
    ids = np.random.default_rng(2).integers(low, high, (3, 17))
    ids[0, 0] = 7  # so that "both" has both
    inputs = requests(cut, items, ids)
    np.testing.assert_allclose(parts(inputs)["scores"], OnnxRunner(cut.whole)(inputs)["scores"], atol=TOLERANCE)


@every_model
def test_known_items_need_no_product_of_the_item_alone(name: str) -> None:
    """All products of the item alone stand in the branch for unknown items."""
    tower = split_item_tower(zoo_cut(name))
    tabled = with_item_table(zoo_cut(name), catalogue(zoo_cut(name))).candidate_scorer
    in_tower = {node.name for node in tower.tower.graph.node if operator(node.op_type).is_product}
    assert in_tower
    assert in_tower.isdisjoint(node.name for node in tabled.graph.node)
    (choice,) = (node for node in tabled.graph.node if node.op_type == "If")
    then = next(entry.g for entry in choice.attribute if entry.name == "then_branch")
    assert {node.op_type for node in then.node} <= {"Gather", "Transpose"}


def test_padding_is_in_the_table() -> None:
    """Else every padded request would run the tower."""
    cut = zoo_cut("append")
    items = catalogue(cut)
    scorer = OnnxRunner(_with_all_known_as_output(with_item_table(cut, items).candidate_scorer), ["lookup_all_known"])
    encoder = OnnxRunner(cut.history_encoder)
    for ids, expected in (([[1, 2, 0, 0]], True), ([[1, 2, 0, IN_TABLE + 1]], False)):
        inputs = requests(cut, items, np.array(ids))
        assert bool(scorer({**inputs, **encoder(inputs)})["lookup_all_known"]) is expected


def _with_all_known_as_output(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.output.append(onnx.helper.make_tensor_value_info("lookup_all_known", onnx.TensorProto.BOOL, []))
    return model


def test_a_table_of_other_features_is_found_by_the_check() -> None:
    cut = zoo_cut("append")
    items = catalogue(cut)
    tabled = with_item_table(cut, items)
    referee = referee_of(cut)
    check_item_table(tabled, items, referee)
    other = items | {"candidate_genres": items["candidate_genres"] + 1}
    with pytest.raises(ParityError, match="item table"):
        check_item_table(tabled, other, referee)


def test_bytes_of_a_row_are_those_of_the_table() -> None:
    cut = zoo_cut("lime_mha")
    tower = split_item_tower(cut)
    table = with_item_table(cut, catalogue(cut)).candidate_scorer
    count = sum(
        onnx.numpy_helper.to_array(tensor).nbytes
        for tensor in table.graph.initializer
        if tensor.name.startswith("table_")
    )
    assert count == (IN_TABLE + 1) * tower.bytes_per_item  # one more for padding


def test_ids_too_large_for_a_table_are_refused() -> None:
    cut = zoo_cut("append")
    with pytest.raises(ItemTableError, match=r"candidate_items: expected ids up to .*; number the items densely"):
        with_item_table(cut, catalogue(cut, first=2**40))


def test_a_ranker_without_ids_is_refused() -> None:
    ranker = zoo_cut("append").ranker
    genres = tuple(tensor for tensor in ranker.candidate if tensor.name == "candidate_genres")
    with pytest.raises(ItemTableError, match="no candidate input holds one integer id a candidate"):
        id_tensor(dataclasses.replace(ranker, candidate=genres))
    assert id_tensor(ranker) == Tensor("candidate_items", "int64", (ranker.candidate_axis,), high=NUM_ITEMS + 1)
