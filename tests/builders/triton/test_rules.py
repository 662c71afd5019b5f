"""Every config that is written keeps the rules of all targets, and each rule finds the config that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2

from cleave.builders.contract.location import DEFAULT_FOLDER
from cleave.builders.cut.cut import Cut
from cleave.builders.names import SIGNATURE_PARAMETER
from cleave.builders.targets.registry import TARGETS
from cleave.builders.targets.target import Target
from cleave.builders.triton.rules import violations
from cleave.builders.zoo import ZOO
from tests.configs import configs_of
from tests.zoo_cuts import zoo_cut

ROOT = Path(__file__).parents[3]
SCORER = "small_candidate_scorer"


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_committed_configs_keep_the_rules(target: Target) -> None:
    committed = configs_of(ROOT / DEFAULT_FOLDER, target.config_file)
    assert {name for name in committed if name.endswith("_whole")}
    assert violations(committed, target.rules()) == []


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("name", ZOO)
def test_configs_of_the_zoo_keep_the_rules(name: str, target: Target) -> None:
    assert violations({config.name: config for config in target.configs(zoo_cut(name))}, target.rules()) == []


def misspell_a_step(configs: dict[str, Any]) -> None:
    configs["small"].ensemble_scheduling.step[0].model_name = "smal"


def change_a_type(configs: dict[str, Any]) -> None:
    configs[SCORER].output[0].data_type = model_config_pb2.TYPE_FP16


def change_dims(configs: dict[str, Any]) -> None:
    configs[SCORER].input[1].dims[0] += 1


def leave_an_input_out(configs: dict[str, Any]) -> None:
    del configs["small_uncached"].ensemble_scheduling.step[0].input_map["ids"]


def shrink_a_step(configs: dict[str, Any]) -> None:
    configs[SCORER].max_batch_size -= 1


def forget_the_signature(configs: dict[str, Any]) -> None:
    del configs[SCORER].parameters[SIGNATURE_PARAMETER]


def warm_an_ensemble_up(configs: dict[str, Any]) -> None:
    configs["small"].model_warmup.add(name="first", batch_size=1)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        ("steps_fit", misspell_a_step),
        ("steps_fit", change_a_type),
        ("steps_fit", change_dims),
        ("steps_fit", leave_an_input_out),
        ("batches_fit", shrink_a_step),
        ("signatures_are_there", forget_the_signature),
        ("no_warmup_of_ensembles", warm_an_ensemble_up),
    ],
)
def test_a_broken_config_breaks_its_rule(
    rule: str, damage: Callable[[dict[str, Any]], None], target: Target, small_cut: Cut
) -> None:
    configs = {config.name: config for config in target.configs(small_cut)}
    damage(configs)
    assert rule in {violation.rule for violation in violations(configs)}
