"""Rules that the configs of TensorRT engines keep, besides those of every target."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tritonclient.grpc import model_config_pb2

from cleave.builders.contract.engine_record import Bounds, holds
from cleave.builders.names import BATCH, PLAN_PLATFORM, PROFILES_PARAMETER
from cleave.builders.triton.rules import Configs, Found, Rule, ensembles, entries, signature_or_empty, steps

Sizes = dict[str, int]
"""Of axes, by name."""


def _engines(configs: Configs) -> Iterator[Any]:
    return (config for config in configs.values() if config.platform == PLAN_PLATFORM)


def _profiles(config: Any) -> list[Bounds]:
    """What each profile of an engine takes; none of a config that does not say it."""
    if PROFILES_PARAMETER not in config.parameters:
        return []
    profiles = json.loads(config.parameters[PROFILES_PARAMETER].string_value)
    return [{name: (low, high) for name, (low, high) in profile.items()} for profile in profiles]


def _input_axes(config: Any) -> dict[str, tuple[str | int, ...]]:
    """The axes of each input by name."""
    return {name: tensor.axes for name, tensor in signature_or_empty(config).inputs.items()}


def _sizes(axes_of: Mapping[str, Sequence[str | int]], dims_of: Mapping[str, Sequence[int]]) -> dict[str, Sizes]:
    """The size of each axis of each input by name, which has these dims."""
    return {
        name: {axis: size for axis, size in zip(axes_of.get(name, ()), dims, strict=False) if isinstance(axis, str)}
        for name, dims in dims_of.items()
    }


def _takes(profile: Bounds, batch: int, sizes: Mapping[str, Sizes]) -> bool:
    return all(holds(profile, {BATCH: batch, **of_input}) for of_input in ({}, *sizes.values()))


def profiles_cover_axes(configs: Configs) -> Found:
    """For every size within the axes, and every batch, an engine has a profile, and its instances load it."""
    for config in _engines(configs):
        profiles = _profiles(config)
        loaded = {int(place) for group in config.instance_group for place in group.profile}
        if not profiles or loaded != set(range(len(profiles))):
            yield config.name, f"profiles: expected instances to load all {len(profiles)}, got {sorted(loaded)}"
            continue
        bounds = {BATCH: (1, config.max_batch_size), **_bounds_of_axes(config, configs)}
        for name in sorted({name for profile in profiles for name in profile} & set(bounds)):
            low, high = bounds[name]
            ranges = sorted({profile[name] for profile in profiles})
            gapless = all(right[0] <= left[1] + 1 for left, right in itertools.pairwise(ranges))
            if ranges[0][0] > low or max(end for _, end in ranges) < high or not gapless:
                yield config.name, f"profiles: {name}: expected {low} to {high} without a gap, got {ranges}"
        yield from ((config.name, message) for message in _missing_combinations(profiles))


def _missing_combinations(profiles: Sequence[Bounds]) -> Iterator[str]:
    """Ranges that no profile has together, though each is in one."""
    ranges = {name: sorted({profile[name] for profile in profiles if name in profile}) for name in profiles[0]}
    for chosen in itertools.product(*ranges.values()):
        wanted = dict(zip(ranges, chosen, strict=True))
        if wanted not in profiles:
            yield f"profiles: expected one of {wanted}, as there are for each of these ranges, got {profiles}"


def _bounds_of_axes(config: Any, configs: Configs) -> dict[str, tuple[int, int]]:
    """Of a summary's axes, too, which only the signatures of the ensembles have that read it."""
    readers = (each for each in ensembles(configs) if config.name in steps(each))
    return {
        name: (axis.min, axis.max)
        for each in (*readers, config)
        for name, axis in signature_or_empty(each).axes.items()
    }


def engines_are_on_gpus(configs: Configs) -> Found:
    """An engine has instances, all on GPUs."""
    gpu = model_config_pb2.ModelInstanceGroup.KIND_GPU
    for config in _engines(configs):
        if not config.instance_group or any(group.kind != gpu for group in config.instance_group):
            yield config.name, "instance_group: expected KIND_GPU, as an engine runs nowhere else"


def no_response_cache(configs: Configs) -> Found:
    """No response cache on a model that an ensemble calls on a GPU: it takes CPU tensors only and never hits."""
    called = {name for config in ensembles(configs) for name in steps(config)}
    for config in _engines(configs):
        if config.response_cache.enable and config.name in called:
            yield config.name, "response_cache: expected none, as every request would be a miss"


def every_profile_is_warm(configs: Configs) -> Found:
    """An engine is warmed up in each of its profiles, with all of its inputs."""
    for config in _engines(configs):
        if len(config.model_warmup) != len(_profiles(config)):
            yield config.name, f"model_warmup: expected one a profile, got {len(config.model_warmup)}"
        axes_of = _input_axes(config)
        for profile, warmup in zip(_profiles(config), config.model_warmup, strict=False):
            batch, sizes = warmup.batch_size, _sizes(axes_of, {name: each.dims for name, each in warmup.inputs.items()})
            if not _takes(profile, batch, sizes):
                yield config.name, f"model_warmup {warmup.name!r}: expected {profile}, got batch {batch} of {sizes}"
        for warmup in config.model_warmup:
            if set(warmup.inputs) != set(entries(config.input)):
                yield config.name, f"model_warmup {warmup.name!r}: expected every input, got {sorted(warmup.inputs)}"


def graphs_are_inside_a_profile(configs: Configs) -> Found:
    """A CUDA graph's shapes lie in one profile, and only its batch may be partly filled."""
    for config in _engines(configs):
        axes_of = _input_axes(config)
        for graph in config.optimization.cuda.graph_spec:
            batch, sizes = graph.batch_size, _sizes(axes_of, {name: each.dim for name, each in graph.input.items()})
            if not any(_takes(profile, batch, sizes) for profile in _profiles(config)):
                yield config.name, f"graph_spec: expected sizes of one profile, got batch {batch} of {sizes}"
            lower = graph.graph_lower_bound if graph.HasField("graph_lower_bound") else graph
            if any(list(lower.input[name].dim) != list(shape.dim) for name, shape in graph.input.items()):
                yield config.name, "graph_spec: its lower bound has other shapes; only the batch may be partly filled"


RULES: tuple[Rule, ...] = (
    profiles_cover_axes,
    engines_are_on_gpus,
    no_response_cache,
    every_profile_is_warm,
    graphs_are_inside_a_profile,
)
