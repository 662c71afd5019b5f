"""Rules that the configs of a model repository keep, each with a name: what Triton would find at load, or never."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import model_config_pb2

from cleave.builders.contract.engine_record import Bounds, holds
from cleave.builders.contract.signature import Signature
from cleave.builders.errors import CheckError
from cleave.builders.names import BATCH, ENCODER_PARAMETER, PLAN_PLATFORM, PROFILES_PARAMETER, SIGNATURE_PARAMETER
from cleave.builders.triton.configs import signature_of

Configs = Mapping[str, Any]
"""The `ModelConfig` of every model of one repository, by name."""
Sizes = dict[str, int]
"""Of axes, by name."""
Found = Iterator[tuple[str, str]]
"""Model and what is wrong with it."""


@dataclass(frozen=True)
class Violation:
    """A rule that a model's config breaks."""

    rule: str
    model: str
    message: str

    def __str__(self) -> str:
        return f"{self.model}: {self.message} ({self.rule})"


class ConfigError(CheckError):
    """Configs that Triton would refuse, or serve wrongly."""


def check_configs(configs: Iterable[Any]) -> None:
    """Refuse configs that do not fit together.

    Args:
        configs: of all models of one repository.

    Raises:
        ConfigError: names each model, what is wrong with it, and the rule.
    """
    broken = violations({config.name: config for config in configs})
    if broken:
        raise ConfigError(f"{', '.join(map(str, broken))}; please report it with the model")


def violations(configs: Configs) -> list[Violation]:
    """What breaks a rule; empty for configs that fit together."""
    return [Violation(name, model, message) for name, rule in RULES.items() for model, message in rule(configs)]


def _ensembles(configs: Configs) -> Iterator[Any]:
    return (config for config in configs.values() if config.platform == "ensemble")


def _steps(ensemble: Any) -> list[str]:
    return [step.model_name for step in ensemble.ensemble_scheduling.step]


def _engines(configs: Configs) -> Iterator[Any]:
    return (config for config in configs.values() if config.platform == PLAN_PLATFORM)


def _entries(field: Any) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {entry.name: (entry.data_type, tuple(entry.dims)) for entry in field}


def _profiles(config: Any) -> list[Bounds]:
    """What each profile of an engine takes; none of a config that does not say it."""
    if PROFILES_PARAMETER not in config.parameters:
        return []
    profiles = json.loads(config.parameters[PROFILES_PARAMETER].string_value)
    return [{name: (low, high) for name, (low, high) in profile.items()} for profile in profiles]


def _signature(config: Any) -> Signature:
    """An empty one of a config without one, which breaks a rule of its own."""
    return signature_of(config) if SIGNATURE_PARAMETER in config.parameters else Signature({}, {}, {})


def _input_axes(config: Any) -> dict[str, tuple[str | int, ...]]:
    """The axes of each input by name."""
    return {name: tensor.axes for name, tensor in _signature(config).inputs.items()}


def _sizes(axes_of: Mapping[str, Sequence[str | int]], dims_of: Mapping[str, Sequence[int]]) -> dict[str, Sizes]:
    """The size of each axis of each input by name, which has these dims."""
    return {
        name: {axis: size for axis, size in zip(axes_of.get(name, ()), dims, strict=False) if isinstance(axis, str)}
        for name, dims in dims_of.items()
    }


def _takes(profile: Bounds, batch: int, sizes: Mapping[str, Sizes]) -> bool:
    return all(holds(profile, {BATCH: batch, **of_input}) for of_input in ({}, *sizes.values()))


def signatures_are_there(configs: Configs) -> Found:
    """Every config publishes its signature, which clients and other rules read."""
    for config in configs.values():
        if SIGNATURE_PARAMETER not in config.parameters:
            yield config.name, f"parameters: expected {SIGNATURE_PARAMETER!r}, got {sorted(config.parameters)}"


def steps_fit(configs: Configs) -> Found:
    """Every tensor of an ensemble has one type and one shape in all models that it passes through."""
    for config in _ensembles(configs):
        known = _entries(config.input)
        for step in config.ensemble_scheduling.step:
            model = configs.get(step.model_name)
            if model is None:
                yield config.name, f"step {step.model_name!r} is no model of the repository"
                continue
            inputs, outputs = _entries(model.input), _entries(model.output)
            if set(step.input_map) != set(inputs):
                yield config.name, f"step {step.model_name!r}: expected inputs {set(inputs)}, got {set(step.input_map)}"
            for inner, outer in step.input_map.items():
                if inner in inputs and known.get(outer) != inputs[inner]:
                    yield (
                        config.name,
                        f"{outer!r}: expected {inputs[inner]} as {model.name} takes, got {known.get(outer)}",
                    )
            known |= {outer: outputs[inner] for inner, outer in step.output_map.items() if inner in outputs}
        for name, entry in _entries(config.output).items():
            if known.get(name) != entry:
                yield config.name, f"output {name!r}: expected {entry}, got {known.get(name)} from its steps"


def batches_fit(configs: Configs) -> Found:
    """No model hands more users to another than that takes."""
    for config in configs.values():
        called = _steps(config)
        if ENCODER_PARAMETER in config.parameters:
            called.append(config.parameters[ENCODER_PARAMETER].string_value)
        for name in called:
            if name in configs and configs[name].max_batch_size < config.max_batch_size:
                yield (
                    config.name,
                    f"max_batch_size: expected at most {configs[name].max_batch_size} as {name} takes, got "
                    f"{config.max_batch_size}",
                )


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
    readers = (each for each in _ensembles(configs) if config.name in _steps(each))
    return {name: (axis.min, axis.max) for each in (*readers, config) for name, axis in _signature(each).axes.items()}


def engines_are_on_gpus(configs: Configs) -> Found:
    """An engine has instances, all on GPUs."""
    gpu = model_config_pb2.ModelInstanceGroup.KIND_GPU
    for config in _engines(configs):
        if not config.instance_group or any(group.kind != gpu for group in config.instance_group):
            yield config.name, "instance_group: expected KIND_GPU, as an engine runs nowhere else"


def no_response_cache(configs: Configs) -> Found:
    """No response cache on a model that an ensemble calls on a GPU: it takes CPU tensors only and never hits."""
    called = {name for config in _ensembles(configs) for name in _steps(config)}
    for config in _engines(configs):
        if config.response_cache.enable and config.name in called:
            yield config.name, "response_cache: expected none, as every request would be a miss"


def no_warmup_of_ensembles(configs: Configs) -> Found:
    """Triton does not warm ensembles up."""
    for config in _ensembles(configs):
        if config.model_warmup:
            yield config.name, "model_warmup: expected none on an ensemble; warm its steps up"


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
            if set(warmup.inputs) != set(_entries(config.input)):
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


RULES: dict[str, Callable[[Configs], Found]] = {
    rule.__name__: rule
    for rule in (
        signatures_are_there,
        steps_fit,
        batches_fit,
        profiles_cover_axes,
        engines_are_on_gpus,
        no_response_cache,
        no_warmup_of_ensembles,
        every_profile_is_warm,
        graphs_are_inside_a_profile,
    )
}
"""By name; each yields the models that break it."""
