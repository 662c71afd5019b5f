"""The table of operators: every operator on the way of a zoo model is in it, and its kinds are what operators do."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from cleave.builders.cut.narrow import cut_with_precision
from cleave.builders.onnx_graph.operators import OPERATORS, Kind, operator
from cleave.builders.targets.tensorrt.forms import tensorrt_parts
from cleave.builders.zoo import ZOO
from tests.zoo_cuts import zoo_cut

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "BitShift": {"direction": "LEFT"},
    "Cast": {"to": TensorProto.INT32},
    "Mod": {"fmod": 1},
}
"""Of operators that are invalid without."""

MOVED = (Kind.MOVE, Kind.VIEW)
"""What they do to elements does not depend on these."""

SCHEMAS = 24
"""An opset that has every operator of the table."""


@pytest.mark.parametrize("name", ZOO)
def test_every_operator_of_the_zoo_and_of_its_engines_has_a_row(name: str) -> None:
    for cut in (zoo_cut(name), cut_with_precision(zoo_cut(name), "float16")):
        engines = [form.model for part in tensorrt_parts(cut) for form in part.forms]
        for model in (*(part.graph for part in cut.parts.values()), *engines):
            assert {node.op_type for node in model.graph.node} <= set(OPERATORS)


def test_rows_are_operators_of_onnx_in_alphabetical_order() -> None:
    assert list(OPERATORS) == sorted(OPERATORS)
    assert all(onnx.defs.has(name) for name in OPERATORS)


def test_an_operator_without_a_row_needs_its_inputs_whole() -> None:
    row = operator("DepthToSpace")
    assert (row.name, row.kind, row.flops) == ("DepthToSpace", Kind.OTHER, 1)


def operands(name: str, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Two arrays [6] for a sum or mean of any number, else as many as the operator needs, within its domain."""
    schema = onnx.defs.get_schema(name)
    count = 2 if schema.inputs[0].option is onnx.defs.OpSchema.FormalParameterOption.Variadic else schema.min_input
    arrays: dict[str, NDArray[Any]] = {}
    for place in range(count):
        types = schema.inputs[min(place, len(schema.inputs) - 1)].types
        if "tensor(float)" in types:
            array = rng.uniform(0.1, 0.9, 6).astype(np.float32)
            arrays[f"x{place}"] = 1 + array if name == "Acosh" else array
        elif "tensor(bool)" in types:
            arrays[f"x{place}"] = rng.integers(0, 2, 6).astype(np.bool_)
        else:
            arrays[f"x{place}"] = rng.integers(0, 5, 6).astype(np.uint8)
    return arrays


def run_node(name: str, arrays: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The outputs of one node, by ONNX's reference implementation."""
    given = [
        helper.make_tensor_value_info(each, helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape))
        for each, array in arrays.items()
    ]
    node = helper.make_node(name, list(arrays), ["y"], **ATTRIBUTES.get(name, {}))
    graph = helper.make_graph([node], name, given, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", SCHEMAS)])
    return [np.asarray(output) for output in ReferenceEvaluator(model).run(None, arrays)]


@pytest.mark.parametrize("name", [name for name, row in OPERATORS.items() if row.kind is Kind.ELEMENTWISE])
def test_elementwise_operators_treat_every_place_alike(name: str) -> None:
    """What comes in in another order comes out in that order."""
    rng = np.random.default_rng(0)
    arrays = operands(name, rng)
    order = rng.permutation(6)
    (result,) = run_node(name, arrays)
    (permuted,) = run_node(name, {each: array[order] for each, array in arrays.items()})
    np.testing.assert_array_equal(permuted, result[order])


@pytest.mark.parametrize("name", [name for name, row in OPERATORS.items() if row.modular and row.kind not in MOVED])
def test_the_lower_half_of_a_modular_result_depends_on_the_lower_halves_of_the_inputs(name: str) -> None:
    rng = np.random.default_rng(0)
    info = np.iinfo(np.int64)
    schema = onnx.defs.get_schema(name)
    arrays: dict[str, NDArray[Any]] = {
        f"x{place}": rng.integers(info.min, info.max, 6) for place in range(max(schema.min_input, 1))
    }
    if name == "Where":
        arrays["x0"] = rng.integers(0, 2, 6).astype(np.bool_)
    if name in ("CumSum", "ReduceSum"):
        arrays["x1"] = np.array(0) if name == "CumSum" else np.array([0])
    (exact,) = run_node(name, arrays)
    whole = {each for each, array in arrays.items() if array.dtype == np.int64 and array.size == 6}
    lower = {each: array.astype(np.int32) if each in whole else array for each, array in arrays.items()}
    (wrapped,) = run_node(name, lower)
    np.testing.assert_array_equal(wrapped.astype(np.int32), exact.astype(np.int32))


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("Add", set(), set()),
        ("ArgMax", set(), {0}),
        ("ConstantOfShape", {0}, set()),
        ("CumSum", {1}, set()),
        ("Gather", set(), set()),
        ("Pad", {1, 3}, set()),
        ("ReduceSum", {1}, set()),
        ("Reshape", {1}, set()),
        ("Shape", set(), {0}),
        ("Slice", {1, 2, 3, 4}, set()),
        ("TopK", {1}, {1}),
        ("NoSuchOperator", set(), set()),
    ],
)
def test_what_is_always_int64(name: str, inputs: set[int], outputs: set[int]) -> None:
    """Shapes, axes and counts; not the ids that are looked up."""
    row = operator(name)
    assert (set(row.int64_inputs), set(row.int64_outputs)) == (inputs, outputs)
