"""Attention that is spelled out becomes one operator where the operator can say it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from cleave.builders.passes.fused_attention import with_attention
from cleave.builders.passes.node_names import with_node_names
from tests.builders.graphs import ops

LOWEST = np.array(np.finfo(np.float32).min)


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
    return with_node_names(model)


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
