"""Runs ONNX graphs on the CPU while building."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnxruntime

from cleave.builders.errors import BuilderError
from cleave.builders.onnx_graph.edit import element_types
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays
from cleave.builders.onnx_graph.scopes import scope_of


class RunError(BuilderError):
    """A graph cannot be run, or fails at sizes within its axes."""


class OnnxRunner:
    """A graph that is ready to run; of the inputs that it is called with, it takes those that it has, by name."""

    def __init__(self, model: onnx.ModelProto, outputs: Sequence[str] | None = None, optimized: bool = True) -> None:
        """
        Args:
            outputs: names to compute, by default the graph's outputs.
            optimized: let ONNX Runtime fuse nodes.

        Raises:
            RunError: names the node that ONNX Runtime cannot run, and the types that it computes with.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is raised
        options.enable_cpu_mem_arena = False  # the largest shapes are run once and need not stay reserved
        if not optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime has a class for each status and no common one
            raise RunError(_refusal(model, " ".join(str(error).split()))) from error
        self.inputs = [tensor.name for tensor in self._session.get_inputs()]
        self.outputs = list(outputs or (tensor.name for tensor in self._session.get_outputs()))

    def __call__(self, inputs: Mapping[str, AnyArray]) -> Arrays:
        """Outputs by name.

        Raises:
            RunError: names the operator that fails and the sizes of the inputs.
        """
        try:
            results: list[Any] = self._session.run(self.outputs, {name: inputs[name] for name in self.inputs})
        except Exception as error:  # ONNX Runtime has a class for each status and no common one
            shapes = ", ".join(f"{name} {list(inputs[name].shape)}" for name in self.inputs)
            reason = " ".join(str(error).split())
            raise RunError(
                f"the exported graph cannot be run on {shapes}: {reason}; make the module work for every size from min "
                "to max of each axis, or narrow the axis"
            ) from error
        return dict(zip(self.outputs, results, strict=True))


_NODE = re.compile(r"node with name '([^']+)'|in node \(([^)]+)\)")


def _refusal(model: onnx.ModelProto, reason: str) -> str:
    """Why a graph cannot be loaded: the node that ONNX Runtime names, if it names one, and its types."""
    found = _NODE.search(reason)
    node = next((node for node in model.graph.node if found and node.name in found.groups()), None)
    if node is None:
        return f"ONNX Runtime cannot load the exported graph: {reason}; write the module with other operators or types"
    types = element_types(model)
    kinds = [onnx.TensorProto.DataType.Name(types[name]).lower() for name in node.input if name in types]
    remedy = f"write module {scope_of(node)!r} with another operator, or in another type"
    if "bfloat16" in kinds:
        remedy = "keep the module in float32 (module.float()), and let --precision write bfloat16 into engines"
    return (
        f"{node.name}: ONNX Runtime has no {node.op_type} of {', '.join(dict.fromkeys(kinds))} on a CPU ({reason}); "
        f"{remedy}"
    )
