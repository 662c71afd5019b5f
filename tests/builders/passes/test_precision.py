"""16 bits where they do no harm: scores near those of float64, and float32 where the graph needs it."""

from __future__ import annotations

import copy

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from cleave.builders.contract.dtypes import TOLERANCES
from cleave.builders.cut.cut import Cut
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.cut.narrow import cut_with_precision, narrowed, rounded_cut
from cleave.builders.onnx_graph.edit import element_types
from cleave.builders.onnx_graph.probe import Probe
from cleave.builders.onnx_graph.random_inputs import Arrays, draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes.precision import PrecisionError, with_precision
from cleave.builders.passes.rounding import rounded
from cleave.builders.spec import Ranker
from cleave.builders.zoo import ZOO
from tests.builders.graphs import analyzed, draw, graph
from tests.zoo_cuts import zoo_cut

HALVES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
halves = pytest.mark.parametrize(("precision", "tolerance"), [(half, TOLERANCES[half]) for half in HALVES])
NOTHING_KNOWN = Probe({}, {}, {})


def float64_scores(ranker: Ranker, inputs: Arrays) -> np.ndarray:  # type: ignore[type-arg]
    module = copy.deepcopy(ranker.module).double().eval()
    tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
    with torch.no_grad():
        scores: np.ndarray = module(  # type: ignore[type-arg]
            **{name: values.double() if values.is_floating_point() else values for name, values in tensors.items()}
        ).numpy()
    return scores


def rounded_parts(cut: Cut) -> EncoderThenScorer:
    return EncoderThenScorer(rounded_cut(cut))


@halves
@pytest.mark.parametrize("name", ZOO)
def test_scores_are_near_those_of_float64(name: str, precision: str, tolerance: float) -> None:
    cut = narrowed(zoo_cut(name), precision)
    whole, parts = OnnxRunner(rounded(cut.whole)), rounded_parts(cut)
    for seed in range(3):
        sizes = {"history": 150, "candidates": 30}
        inputs = draw_inputs(cut.ranker, sizes, 2, np.random.default_rng(seed), padded=True)
        expected = float64_scores(cut.ranker, inputs)
        for scores in (whole(inputs)["scores"], parts(inputs)["scores"]):
            np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance)


def wide(model: onnx.ModelProto) -> set[str]:
    """The nodes that compute in float32, by name, without casts."""
    types = element_types(model)
    return {
        node.name
        for node in model.graph.node
        if node.op_type != "Cast" and any(types.get(name) == TensorProto.FLOAT for name in node.output)
    }


@pytest.mark.parametrize("name", ZOO)
def test_all_products_are_narrow_but_for_sums_over_the_history_and_the_logits(name: str) -> None:
    """VISTA's state and its product with the values, in two layers; what LIME-XOR's links add up, in three."""
    cut = cut_with_precision(zoo_cut(name), "float16")
    encoder, scorer = (
        sum("MatMul" in node for node in wide(part)) for part in (cut.history_encoder, cut.candidate_scorer)
    )
    assert encoder == {"vista": 4, "lime_xor": 3}.get(name, 0)
    assert scorer == 1


def test_norms_and_softmax_and_its_masks_are_wide() -> None:
    scorer = cut_with_precision(zoo_cut("append"), "bfloat16").candidate_scorer
    kept = {name.rpartition("/part_1")[0] or name for name in wide(scorer)}
    assert {"blocks.0/Softmax", "blocks.0/Where/masked", "blocks.1/Where/bias"} <= kept
    assert {"blocks.0.norm_attention/LayerNormalization", "model/Sigmoid"} <= kept
    assert not {"blocks.0/MatMul", "blocks.0/MatMul_2", "blocks.0.feed_forward.layers.1/Gelu", "blocks.0/Add"} & kept


@halves
def test_weights_are_kept_in_the_precision(precision: str, tolerance: float) -> None:
    scorer = cut_with_precision(zoo_cut("append"), precision).candidate_scorer
    types = {tensor.name: tensor.data_type for tensor in scorer.graph.initializer if len(tensor.dims) == 2}
    assert types.pop("val_204") == TensorProto.FLOAT  # of the logits
    assert set(types.values()) == {HALVES[precision]}


@halves
def test_inputs_and_outputs_keep_their_types(precision: str, tolerance: float) -> None:
    cut = zoo_cut("concat")
    changed = cut_with_precision(cut, precision)
    for before, after in ((cut.whole, changed.whole), (cut.candidate_scorer, changed.candidate_scorer)):
        for field in ("input", "output"):
            values = ([(value.name, value.type) for value in getattr(each.graph, field)] for each in (before, after))
            assert next(values) == next(values)


def test_sums_that_exceed_float16_stay_finite() -> None:
    """A hundred thousand is beyond it; without knowing that it is a sum over the history it would be infinite."""
    model = graph(
        """
        transposed = Transpose<perm=[0,2,1]>(events)
        state = MatMul(transposed, events)
        mapped = MatMul(state, w)
        read = MatMul(features, mapped)
        small = Mul(read, thousandth)
        scores = ReduceSum<keepdims=0>(small, last)
        """,
        thousandth=np.array(1e-5, np.float32),
        w=np.ones((4, 4), np.float32),
    )
    inputs = draw(1, 12, 4)
    inputs["events"] = np.full_like(inputs["events"], 100)
    known, _ = analyzed(model)
    careful, careless = (rounded(with_precision(model, "float16", probe)) for probe in (known, NOTHING_KNOWN))
    expected = OnnxRunner(model)(inputs)["scores"]
    np.testing.assert_allclose(OnnxRunner(careful)(inputs)["scores"], expected, rtol=1e-2)
    assert not np.isfinite(OnnxRunner(careless)(inputs)["scores"]).all()


@halves
def test_every_result_is_rounded_when_measured(precision: str, tolerance: float) -> None:
    model = graph("mapped = MatMul(features, w) scores = ReduceSum<keepdims=0>(mapped, last)")
    narrow = with_precision(model, precision, NOTHING_KNOWN)
    inputs = draw(2, 3, 4)
    dtype = np.float16 if precision == "float16" else ml_dtypes.bfloat16
    weights = onnx.numpy_helper.to_array(narrow.graph.initializer[-1]).astype(np.float32)
    assert weights.shape == (4, 4)
    product = (inputs["features"].astype(dtype).astype(np.float32) @ weights).astype(dtype).astype(np.float32)
    np.testing.assert_allclose(OnnxRunner(rounded(narrow))(inputs)["scores"], product.sum(-1), rtol=1e-6, atol=1e-6)


def test_constants_beyond_the_range_become_the_largest_number() -> None:
    model = graph(
        "mapped = MatMul(features, w) bounded = Min(mapped, top) scores = ReduceSum<keepdims=0>(bounded, last)",
        top=np.array(3e38, np.float32),
    )
    narrow = with_precision(model, "float16", NOTHING_KNOWN)
    (top,) = (tensor for tensor in narrow.graph.initializer if tensor.name.startswith("top"))
    assert onnx.numpy_helper.to_array(top) == np.finfo(np.float16).max


def test_counts_stay_wide_and_flags_become_narrow() -> None:
    model = graph(
        """
        real = Greater(ids, two)
        flags = Cast<to=1>(real)
        numbers = Cast<to=1>(ids)
        mapped = MatMul(features, w)
        summed = ReduceSum<keepdims=1>(mapped, last)
        flagged = Mul(flags, flags)
        counted = Mul(numbers, numbers)
        one_flag = ReduceMax<keepdims=1>(flagged, one)
        one_count = ReduceMax<keepdims=1>(counted, one)
        added = Add(one_flag, one_count)
        column = Unsqueeze(added, last)
        both = Add(summed, column)
        scores = Squeeze(both, last)
        """
    )
    types = element_types(with_precision(model, "float16", NOTHING_KNOWN))
    assert types["flagged"] == TensorProto.FLOAT16
    assert types["counted"] == TensorProto.FLOAT


def test_the_summary_crosses_in_half_of_the_bytes() -> None:
    cut = zoo_cut("vista")
    sizes = cut.ranker.sizes("opt")
    for precision in HALVES:
        narrow = narrowed(cut, precision)
        assert [tensor.dtype for tensor in narrow.summary] == ["float16"]
        assert narrow.summary_bytes(sizes) * 2 == cut.summary_bytes(sizes)
    kept = narrowed(cut, "float16", "int8")
    assert [tensor.dtype for tensor in kept.summary] == ["int8", "float32"]


def test_float32_is_the_cut_itself_and_other_precisions_are_refused() -> None:
    assert cut_with_precision(zoo_cut("append"), "float32") is zoo_cut("append")
    with pytest.raises(PrecisionError, match="expected one of float32, float16, bfloat16, got 'float8'"):
        cut_with_precision(zoo_cut("append"), "float8")
