"""A graph that ONNX Runtime does not take is refused by the name of the node and its types."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto

from cleave.builders.onnx_graph.session import OnnxRunner, RunError


def graph(op: str, kind: int) -> onnx.ModelProto:
    names = ("left", "right")
    values = [onnx.helper.make_tensor_value_info(name, kind, ["batch"]) for name in (*names, "result")]
    node = onnx.helper.make_node(op, names, ["result"], "layers.0/Op")
    made = onnx.helper.make_graph([node], "graph", values[:2], values[2:])
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def test_a_type_without_a_kernel() -> None:
    with pytest.raises(RunError) as raised:
        OnnxRunner(graph("Mul", TensorProto.BFLOAT16))
    assert str(raised.value).startswith("layers.0/Op: ONNX Runtime has no Mul of bfloat16 on a CPU (")
    assert str(raised.value).endswith(
        "; keep the module in float32 (module.float()), and let --precision write bfloat16 into engines"
    )


def test_a_type_that_the_operator_does_not_have() -> None:
    with pytest.raises(
        RunError, match=r"^layers.0/Op: ONNX Runtime has no Add of bool on a CPU .*; write module 'layer"
    ):
        OnnxRunner(graph("Add", TensorProto.BOOL))


def test_a_graph_that_is_none() -> None:
    model = graph("Add", TensorProto.FLOAT)
    model.graph.node[0].input[0] = "nothing"
    with pytest.raises(RunError, match=r"^ONNX Runtime cannot load the exported graph: .*nothing"):
        OnnxRunner(model)
