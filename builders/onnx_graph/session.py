"""Runs ONNX graphs on the CPU while building."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnxruntime

from cleave.builders.errors import BuilderError
from cleave.builders.onnx_graph.random_inputs import AnyArray, Arrays


class RunError(BuilderError):
    """A graph that fails at sizes within its axes."""


class OnnxRunner:
    """A graph ready to run; takes what it needs from a larger set of inputs by name."""

    def __init__(self, model: onnx.ModelProto, outputs: Sequence[str] | None = None, optimized: bool = True) -> None:
        """`outputs`: names to compute, by default the graph's outputs; `optimized`: let ONNX Runtime fuse nodes."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is raised
        options.enable_cpu_mem_arena = False  # the largest shapes are run once and need not stay reserved
        if not optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
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
