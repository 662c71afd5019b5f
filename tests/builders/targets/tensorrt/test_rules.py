"""Every config of engines that is written keeps the rules, and each rule finds the config that breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2

from cleave.builders.cut.cut import Cut
from cleave.builders.names import PLAN_FILE, PROFILES_PARAMETER
from cleave.builders.targets.tensorrt.config import GRAPH_BUCKETS, LEAST_FILLED, tensorrt_configs
from cleave.builders.targets.tensorrt.forms import profiles_of_cut, tensorrt_parts
from cleave.builders.targets.tensorrt.profiles import OPT_BATCH
from cleave.builders.targets.tensorrt.rules import RULES
from cleave.builders.triton.rules import ConfigError, check_configs, violations
from tests.zoo_cuts import zoo_cut

ROOT = Path(__file__).parents[4]
SCORER = "small_candidate_scorer"


def by_name(found: list[Any]) -> dict[str, Any]:
    return {config.name: config for config in found}


@pytest.fixture
def engines(small_cut: Cut) -> dict[str, Any]:
    return by_name(tensorrt_configs(small_cut))


def test_what_has_a_graph_is_an_engine_on_a_gpu(small_cut: Cut, engines: dict[str, Any]) -> None:
    plans = {name for name, config in engines.items() if config.platform == "tensorrt_plan"}
    assert plans == {part.name for part in tensorrt_parts(small_cut)}
    for name in plans:
        config = engines[name]
        profiles = profiles_of_cut(small_cut)[name]
        assert config.default_model_filename == PLAN_FILE
        assert len(config.instance_group[0].profile) == len(profiles) == len(config.model_warmup)
        assert config.optimization.cuda.graphs
        assert config.HasField("dynamic_batching")
    assert engines["small"].platform == "ensemble"
    assert engines["small_summary_cache"].backend == "summary_cache"


def test_graphs_are_captured_for_the_bucket_of_opt_and_the_one_below() -> None:
    scorer = by_name(tensorrt_configs(zoo_cut("vista")))["vista_candidate_scorer"]
    graphs = scorer.optimization.cuda.graph_spec
    sizes = {(graph.batch_size, graph.input["candidate_items"].dim[0]) for graph in graphs}
    assert sizes == {(batch, bucket) for batch in (1, OPT_BATCH) for bucket in (256, 512)}
    assert len(graphs) == 2 * GRAPH_BUCKETS
    for graph in graphs:
        assert graph.HasField("graph_lower_bound") == (graph.batch_size > 1)
        if graph.batch_size > 1:
            assert graph.graph_lower_bound.batch_size == LEAST_FILLED
            assert graph.graph_lower_bound.input == graph.input
    assert list(graphs[0].input["summarize"].dim) == [32, 16]
    assert list(graphs[0].input["user_age"].dim) == [1]


def shrink_the_encoder(engines: dict[str, Any]) -> None:
    engines["small_history_encoder"].max_batch_size //= 2
    engines["small_uncached"].max_batch_size //= 2


def load_no_profile(engines: dict[str, Any]) -> None:
    del engines[SCORER].instance_group[0].profile[:]


def leave_a_gap(engines: dict[str, Any]) -> None:
    engines[SCORER].parameters[PROFILES_PARAMETER].string_value = (
        engines[SCORER].parameters[PROFILES_PARAMETER].string_value.replace('"candidates": [1, ', '"candidates": [2, ')
    )


def leave_a_combination_out(engines: dict[str, Any]) -> None:
    """Of two ranges of each of two axes, only the shortest together and the longest together."""
    parameter = engines[SCORER].parameters[PROFILES_PARAMETER]
    (profile,) = json.loads(parameter.string_value)
    history, candidates = profile["history"], profile["candidates"]
    split = [({**profile, "history": [1, 3], "candidates": [1, 2]})]
    split.append({**profile, "history": [4, history[1]], "candidates": [3, candidates[1]]})
    parameter.string_value = json.dumps(split)
    engines[SCORER].instance_group[0].profile[:] = ["0", "1"]


def forget_the_profiles(engines: dict[str, Any]) -> None:
    del engines[SCORER].parameters[PROFILES_PARAMETER]


def warm_a_size_up_that_no_profile_has(engines: dict[str, Any]) -> None:
    engines[SCORER].model_warmup[0].inputs["items"].dims[0] = 99_999


def run_on_the_cpu(engines: dict[str, Any]) -> None:
    engines[SCORER].instance_group[0].kind = model_config_pb2.ModelInstanceGroup.KIND_CPU


def cache_responses(engines: dict[str, Any]) -> None:
    engines[SCORER].response_cache.enable = True


def forget_a_warmup(engines: dict[str, Any]) -> None:
    del engines[SCORER].model_warmup[-1]


def forget_an_input_of_a_warmup(engines: dict[str, Any]) -> None:
    del engines[SCORER].model_warmup[0].inputs["hour"]


def capture_a_batch_that_is_too_large(engines: dict[str, Any]) -> None:
    engines[SCORER].optimization.cuda.graph_spec[0].batch_size = 1000


def capture_for_shorter_requests(engines: dict[str, Any]) -> None:
    engines[SCORER].optimization.cuda.graph_spec[-1].graph_lower_bound.input["items"].dim[0] = 1


@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        ("batches_fit", shrink_the_encoder),
        ("profiles_cover_axes", load_no_profile),
        ("profiles_cover_axes", leave_a_gap),
        ("profiles_cover_axes", leave_a_combination_out),
        ("profiles_cover_axes", forget_the_profiles),
        ("engines_are_on_gpus", run_on_the_cpu),
        ("no_response_cache", cache_responses),
        ("every_profile_is_warm", forget_a_warmup),
        ("every_profile_is_warm", forget_an_input_of_a_warmup),
        ("every_profile_is_warm", warm_a_size_up_that_no_profile_has),
        ("graphs_are_inside_a_profile", capture_a_batch_that_is_too_large),
        ("graphs_are_inside_a_profile", capture_for_shorter_requests),
    ],
)
def test_a_broken_config_breaks_its_rule(
    rule: str, damage: Callable[[dict[str, Any]], None], engines: dict[str, Any]
) -> None:
    assert violations(engines, RULES) == []
    damage(engines)
    before = {name: config.SerializeToString(deterministic=True) for name, config in engines.items()}
    assert rule in {violation.rule for violation in violations(engines, RULES)}
    assert before == {name: config.SerializeToString(deterministic=True) for name, config in engines.items()}


def test_a_build_of_configs_that_break_a_rule_is_refused(engines: dict[str, Any]) -> None:
    check_configs(engines.values(), RULES)
    cache_responses(engines)
    with pytest.raises(
        ConfigError, match=rf"^{SCORER}: response_cache: expected none, .* \(no_response_cache\); please"
    ):
        check_configs(engines.values(), RULES)
