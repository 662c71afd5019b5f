"""From a cut to the configs of its models on ONNX Runtime."""

from __future__ import annotations

from typing import Any, Literal

from tritonclient.grpc import model_config_pb2

from cleave.builders.cut.cut import Cut
from cleave.builders.names import HISTORY_ENCODER, NICE_PARAMETER, model_name
from cleave.builders.triton.configs import base_configs, graph_models

Provider = Literal["cpu", "cuda"]
"""ONNX Runtime's execution provider. Triton's backend takes it from the kind of the model's instances: those on a GPU
get the one of CUDA."""

INSTANCES = {
    "cpu": model_config_pb2.ModelInstanceGroup.KIND_AUTO,  # Triton chooses, and `serving.backends` know the CPU alone
    "cuda": model_config_pb2.ModelInstanceGroup.KIND_GPU,
}

BACKEND = "onnxruntime"

ENCODER_NICE = 10
"""On a CPU, requests whose summary is kept come before histories to be encoded; a GPU's scheduler does not know it."""


def onnxruntime_configs(cut: Cut, provider: Provider = "cpu") -> list[Any]:
    """The config of each model of the ranker, its graphs on ONNX Runtime."""
    made = {config.name: config for config in base_configs(cut)}
    ranker = cut.ranker.name
    for name in graph_models(ranker):
        made[name].backend = BACKEND
        # Triton's default on a CPU is two instances, which compete for the same cores.
        made[name].instance_group.add(count=1, kind=INSTANCES[provider])
    if provider == "cpu":
        made[model_name(ranker, HISTORY_ENCODER)].parameters[NICE_PARAMETER].string_value = str(ENCODER_NICE)
    return list(made.values())
