"""Graphs on ONNX Runtime, by each of its execution providers."""

from __future__ import annotations

from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2

from cleave.builders.cut.cut import Cut
from cleave.builders.names import CONFIG_FILE, NICE_PARAMETER
from cleave.builders.repository import write_repository
from cleave.builders.targets.onnxruntime.config import ENCODER_NICE, Provider, onnxruntime_configs
from cleave.builders.targets.onnxruntime.target import onnxruntime_target
from cleave.builders.targets.registry import TARGETS
from cleave.builders.triton.configs import base_configs, graph_models
from cleave.builders.triton.rules import violations
from tests.configs import configs_of

GRAPHS = graph_models("small")


def configs(cut: Cut, provider: Provider) -> dict[str, Any]:
    return {config.name: config for config in onnxruntime_configs(cut, provider)}


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_a_provider_decides_about_backend_and_instances_of_graphs_alone(provider: Provider, small_cut: Cut) -> None:
    made = configs(small_cut, provider)
    assert violations(made) == []
    for base in base_configs(small_cut):
        config = made[base.name]
        if base.name in GRAPHS:
            assert config.backend == "onnxruntime"
            assert [group.count for group in config.instance_group] == [1]
            config.ClearField("backend")
            config.ClearField("instance_group")
            config.parameters.pop(NICE_PARAMETER, None)
        assert config == base


def test_on_a_processor_encoding_yields_to_scoring(small_cut: Cut) -> None:
    made = configs(small_cut, "cpu")
    assert [name for name, config in made.items() if NICE_PARAMETER in config.parameters] == ["small_history_encoder"]
    assert made["small_history_encoder"].parameters[NICE_PARAMETER].string_value == str(ENCODER_NICE)
    assert {made[name].instance_group[0].kind for name in GRAPHS} == {model_config_pb2.ModelInstanceGroup.KIND_AUTO}


def test_on_cuda_instances_are_on_gpus(small_cut: Cut) -> None:
    made = configs(small_cut, "cuda")
    assert not [name for name, config in made.items() if NICE_PARAMETER in config.parameters]
    assert {made[name].instance_group[0].kind for name in GRAPHS} == {model_config_pb2.ModelInstanceGroup.KIND_GPU}


def test_another_provider_is_one_entry(small_cut: Cut, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configs lie beside those of the others; what servers take by default stays as it is."""
    cuda = onnxruntime_target("cuda")
    assert cuda.name not in TARGETS, "`cleave serve` cannot run it yet"
    write_repository(small_cut, tmp_path / "before", "cleave build small")
    monkeypatch.setitem(TARGETS, cuda.name, cuda)
    write_repository(small_cut, tmp_path / "after", "cleave build small")
    assert configs_of(tmp_path / "after", cuda.config_file) == configs(small_cut, "cuda")
    assert configs_of(tmp_path / "after", CONFIG_FILE) == configs_of(tmp_path / "before", CONFIG_FILE)
