"""Each rewrite for TensorRT before and after, and that no score changes by it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from cleave.builders.cut.narrow import narrowed
from cleave.builders.onnx_graph.edit import element_types
from cleave.builders.onnx_graph.random_inputs import draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes.fold_constants import folded
from cleave.builders.passes.fused_attention import with_attention
from cleave.builders.passes.int32_ids import int32_inside
from cleave.builders.passes.precision import rounded_to
from cleave.builders.passes.tensorrt_graph import tensorrt_graph, with_names, without_double_casts, without_nan_guards
from cleave.builders.zoo import ZOO
from tests.builders.graphs import assert_equal_graphs, draw, graph, ops
from tests.zoo_cuts import zoo_cut

LOWEST = np.array(np.finfo(np.float32).min)
FIXED_AS_INT64 = {"Shape", "Concat", "Squeeze", "Unsqueeze", "Add", "Mul", "Reshape", "Slice", "Gather", "Identity"}
"""What shapes are computed with."""


def int64_nodes(model: onnx.ModelProto) -> dict[str, int]:
    types = element_types(model)
    return Counter(node.op_type for node in model.graph.node if any(types[n] == TensorProto.INT64 for n in node.output))


LOOKUP = """
    unknown = Less(ids, two)
    known = Where(unknown, two, ids)
    counted = CumSum(known, one)
    clipped = Min(counted, nine)
    found = Gather<axis=0>(table, clipped)
    history_size = Shape<start=1, end=2>(ids)
    start = Squeeze(history_size, zero)
    places = Range(zero_scalar, start, one_scalar)
    newest = ReduceMax<keepdims=0>(places, zero)
    floats = Cast<to=1>(newest)
    read = ReduceMean<keepdims=0>(found, one)
    rows = Unsqueeze(read, one)
    products = Mul(features, rows)
    summed = ReduceSum<keepdims=0>(products, last)
    scores = Add(summed, floats)
"""


def lookup() -> onnx.ModelProto:
    return graph(LOOKUP, nine=np.array(9), zero_scalar=np.array(0), one_scalar=np.array(1))


def test_ids_are_cast_once_and_only_shapes_stay_int64() -> None:
    model = lookup()
    assert int64_nodes(model) == {
        "Where": 1,
        "CumSum": 1,
        "Min": 1,
        "Shape": 1,
        "Squeeze": 1,
        "Range": 1,
        "ReduceMax": 1,
    }
    changed = int32_inside(model)
    assert int64_nodes(changed) == {"Shape": 1}
    casts = [node.input[0] for node in changed.graph.node if node.op_type == "Cast" and node.input[0] == "ids"]
    assert casts == ["ids"]
    assert_equal_graphs(model, changed)


def test_int64_outputs_stay_int64_and_operators_that_give_nothing_else_are_cast() -> None:
    model = graph(
        """
        best = ArgMax<axis=1, keepdims=0>(features)
        more = Add(best, one)
        floats = Cast<to=1>(more)
        column = ReduceMax<keepdims=1>(floats, one)
        summed = ReduceSum<keepdims=0>(features, last)
        scores = Add(summed, column)
        """
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("more", TensorProto.INT64, ["batch", 4]))
    changed = int32_inside(model)
    types = element_types(changed)
    assert types["more"] == TensorProto.INT64
    assert types["more/int32"] == TensorProto.INT32
    given = draw(2, 3, 5)
    for name, expected in OnnxRunner(model)(given).items():
        np.testing.assert_array_equal(OnnxRunner(changed)(given)[name], expected)


def test_an_id_that_is_passed_on_is_not_touched() -> None:
    model = graph("kept = Identity(ids) scores = ReduceSum<keepdims=0>(features, last)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("kept", TensorProto.INT64, ["batch", "history"]))
    assert [node.op_type for node in int32_inside(model).graph.node] == ["Identity", "ReduceSum"]


def test_what_depends_on_no_input_is_folded() -> None:
    model = graph(
        "squared = MatMul(w, w) mapped = MatMul(features, squared) scores = ReduceSum<keepdims=0>(mapped, last)"
    )
    assert ops(model).count("MatMul") == 2
    assert ops(folded(model)).count("MatMul") == 1
    assert_equal_graphs(model, folded(model))


GUARDED = """
    real = Greater(ids, two)
    mask = Unsqueeze(real, one)
    bias = Where(mask, nothing, lowest)
    transposed = Transpose<perm=[0,2,1]>(events)
    weights = MatMul(features, transposed)
    masked = Add(weights, bias)
    shares = Softmax<axis=-1>(masked)
    invalid = IsNaN(shares)
    guarded = Where(invalid, nothing, shares)
    read = MatMul(guarded, events)
    scores = ReduceSum<keepdims=0>(read, last)
"""


def guarded(lowest: float) -> onnx.ModelProto:
    return graph(GUARDED, lowest=np.array(lowest, np.float32), nothing=np.array(0, np.float32))


@pytest.mark.parametrize("masked_user", [False, True])
def test_nan_guards_go_where_the_mask_says_the_same(masked_user: bool) -> None:
    model = guarded(-np.inf)
    changed = without_nan_guards(model)
    assert "IsNaN" in ops(model)
    assert "IsNaN" not in ops(changed)
    given = draw(3, 7, 5)
    if masked_user:
        given["ids"][1] = 0
    expected = OnnxRunner(model)(given)["scores"]
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(OnnxRunner(changed)(given)["scores"], expected, atol=1e-6)
    assert (expected[1] == 0).all() == masked_user


def test_a_guard_of_a_finite_mask_goes_without_a_trace() -> None:
    model = guarded(float(LOWEST))
    changed = without_nan_guards(model)
    assert Counter(ops(model)) - Counter(ops(changed)) == {"IsNaN": 1, "Where": 1}
    assert_equal_graphs(model, changed)


def test_a_guard_of_something_else_stays() -> None:
    model = graph(
        """
        roots = Sqrt(features)
        invalid = IsNaN(roots)
        guarded = Where(invalid, nothing, roots)
        scores = ReduceSum<keepdims=0>(guarded, last)
        """,
        nothing=np.array(0, np.float32),
    )
    assert ops(without_nan_guards(model)) == ops(model)


def test_casts_there_and_back_are_left_out() -> None:
    model = graph(
        """
        half = Cast<to=10>(features)
        full = Cast<to=1>(half)
        again = Cast<to=10>(full)
        squared = Mul(again, again)
        whole = Cast<to=1>(squared)
        scores = ReduceSum<keepdims=0>(whole, last)
        """
    )
    assert ops(model).count("Cast") == 4
    assert ops(without_double_casts(model)).count("Cast") == 2
    assert_equal_graphs(rounded_to(model), rounded_to(without_double_casts(model)))


def test_casts_that_lose_something_stay() -> None:
    model = graph("half = Cast<to=10>(features) full = Cast<to=1>(half) scores = ReduceSum<keepdims=0>(full, last)")
    assert ops(without_double_casts(model)) == ops(model)


def attention(
    scale: str = "scaled = Mul(weights, eighth)", mask: str = "masked = Add(scaled, mask)"
) -> onnx.ModelProto:
    """One of four dimensions, its products in float16 and its softmax in float32."""
    model: onnx.ModelProto = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20]> attention (
        float16[batch,2,candidates,8] query, float16[batch,2,8,history] key, float16[batch,2,history,8] value,
        float[batch,1,1,history] mask) => (float16[batch,2,candidates,8] read)
        {{
            product = MatMul(query, key)
            weights = Cast<to=1>(product)
            {scale}
            {mask}
            shares = Softmax<axis=-1>(masked)
            narrow = Cast<to=10>(shares)
            read = MatMul(narrow, value)
        }}"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.125, np.float32), "eighth"))
    return with_names(model)


@pytest.mark.parametrize(
    ("scale", "mask"),
    [
        ("scaled = Mul(weights, eighth)", "masked = Add(scaled, mask)"),
        ("scaled = Div(weights, eighth)", "masked = Add(mask, scaled)"),
        ("scaled = Identity(weights)", "masked = Add(scaled, mask)"),
    ],
)
def test_attention_that_is_spelled_out_becomes_one_operator(scale: str, mask: str) -> None:
    model = without_identities(attention(scale, mask))
    changed = with_attention(model)
    assert Counter(ops(changed))["Attention"] == 1
    assert not {"Softmax", "MatMul"} & set(ops(changed))
    rng = np.random.default_rng(0)
    given = {
        "query": rng.standard_normal((2, 2, 5, 8)).astype(np.float16),
        "key": rng.standard_normal((2, 2, 8, 7)).astype(np.float16),
        "value": rng.standard_normal((2, 2, 7, 8)).astype(np.float16),
        "mask": np.where(rng.random((2, 1, 1, 7)) < 0.5, np.float32(0), LOWEST),
    }
    given["mask"][1] = LOWEST  # the second user has nothing to read; padding is all alike
    given["value"][1] = given["value"][1, :, :1]
    expected, got = (np.asarray(next(iter(ReferenceEvaluator(each).run(None, given)))) for each in (model, changed))
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got.astype(np.float32), expected.astype(np.float32), atol=4e-3)


def without_identities(model: onnx.ModelProto) -> onnx.ModelProto:
    names = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}
    kept = [node for node in model.graph.node if node.op_type != "Identity"]
    for node in kept:
        node.input[:] = [names.get(name, name) for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


@pytest.mark.parametrize("change", ["float32", "axis", "second reader"])
def test_what_the_operator_cannot_say_stays_spelled_out(change: str) -> None:
    model = attention()
    if change == "float32":
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "to":
                    attribute.i = TensorProto.FLOAT
    elif change == "axis":
        (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
        softmax.attribute[0].i = 1
    else:
        shape: list[str | int | None] = ["batch", 2, "candidates", "history"]
        model.graph.output.append(onnx.helper.make_tensor_value_info("shares", TensorProto.FLOAT, shape))
        model.graph.node.append(onnx.helper.make_node("Neg", ["shares"], ["other"], "other"))
    assert with_attention(model) is model


def test_names_are_unique_and_never_empty() -> None:
    model = graph("a = Neg(features) b = Neg(a) scores = ReduceSum<keepdims=0>(b, last)")
    for node, name in zip(model.graph.node, ["model/Neg", "model/Neg", ""], strict=True):
        node.name = name
    names = [node.name for node in with_names(model).graph.node]
    assert names[:2] == ["model/Neg", "model/Neg_2"]
    assert len(set(names)) == 3
    assert all(names)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ZOO)
def test_no_score_of_the_zoo_changes(name: str, precision: str) -> None:
    """And no int64 is left but shapes and casts, no guard, and half precision has its attention in the operator."""
    cut = narrowed(zoo_cut(name), precision)
    given = draw_inputs(cut.ranker, {"history": 30, "candidates": 9}, 2, np.random.default_rng(0), padded=True)
    given |= OnnxRunner(rounded_to(cut.history_encoder))(given)
    for part in (cut.whole, cut.history_encoder, cut.candidate_scorer):
        changed = tensorrt_graph(part)
        assert set(int64_nodes(changed)) <= FIXED_AS_INT64 | {"Cast"}
        assert "IsNaN" not in ops(changed)
        before, after = (OnnxRunner(rounded_to(each), optimized=False)(given) for each in (part, changed))
        for key, expected in before.items():
            np.testing.assert_allclose(after[key], expected, rtol=0, atol=1e-6)
        if not name.startswith("lime"):  # whose scorer has weights of the item alone, apart from what they weigh
            softmaxes = Counter(ops(changed))["Softmax"]
            assert Counter(ops(with_attention(changed)))["Attention"] == (0 if precision == "float32" else softmaxes)
