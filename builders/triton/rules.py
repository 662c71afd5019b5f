"""Rules that the configs of a model repository keep, each with a name: what Triton would find at load, or never."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cleave.builders.contract.signature import Signature
from cleave.builders.errors import CheckError
from cleave.builders.names import ENCODER_PARAMETER, SIGNATURE_PARAMETER
from cleave.builders.triton.configs import signature_of

Configs = Mapping[str, Any]
"""The `ModelConfig` of every model of one repository, by name."""
Found = Iterator[tuple[str, str]]
"""Model and what is wrong with it."""
Rule = Callable[[Configs], Found]
"""Yields what breaks it, and is called by the name of its function."""


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


def check_configs(configs: Iterable[Any], of_target: Sequence[Rule] = ()) -> None:
    """Refuse configs that do not fit together.

    Args:
        configs: of all models of one repository.
        of_target: rules that these configs keep besides `RULES`.

    Raises:
        ConfigError: names each model, what is wrong with it, and the rule.
    """
    broken = violations({config.name: config for config in configs}, of_target)
    if broken:
        raise ConfigError(f"{', '.join(map(str, broken))}; please report it with the model")


def violations(configs: Configs, of_target: Sequence[Rule] = ()) -> list[Violation]:
    """What breaks a rule; empty for configs that fit together."""
    return [
        Violation(rule.__name__, model, message) for rule in (*RULES, *of_target) for model, message in rule(configs)
    ]


def ensembles(configs: Configs) -> Iterator[Any]:
    """The configs of ensembles."""
    return (config for config in configs.values() if config.platform == "ensemble")


def steps(ensemble: Any) -> list[str]:
    """The names of the models that a config calls."""
    return [step.model_name for step in ensemble.ensemble_scheduling.step]


def entries(field: Any) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Type and dims of each input or output, by name."""
    return {entry.name: (entry.data_type, tuple(entry.dims)) for entry in field}


def signature_or_empty(config: Any) -> Signature:
    """An empty one of a config without one, which breaks a rule of its own."""
    return signature_of(config) if SIGNATURE_PARAMETER in config.parameters else Signature({}, {}, {})


def signatures_are_there(configs: Configs) -> Found:
    """Every config publishes its signature, which clients and other rules read."""
    for config in configs.values():
        if SIGNATURE_PARAMETER not in config.parameters:
            yield config.name, f"parameters: expected {SIGNATURE_PARAMETER!r}, got {sorted(config.parameters)}"


def steps_fit(configs: Configs) -> Found:
    """Every tensor of an ensemble has one type and one shape in all models that it passes through."""
    for config in ensembles(configs):
        known = entries(config.input)
        for step in config.ensemble_scheduling.step:
            model = configs.get(step.model_name)
            if model is None:
                yield config.name, f"step {step.model_name!r} is no model of the repository"
                continue
            inputs, outputs = entries(model.input), entries(model.output)
            if set(step.input_map) != set(inputs):
                yield config.name, f"step {step.model_name!r}: expected inputs {set(inputs)}, got {set(step.input_map)}"
            for inner, outer in step.input_map.items():
                if inner in inputs and known.get(outer) != inputs[inner]:
                    yield (
                        config.name,
                        f"{outer!r}: expected {inputs[inner]} as {model.name} takes, got {known.get(outer)}",
                    )
            known |= {outer: outputs[inner] for inner, outer in step.output_map.items() if inner in outputs}
        for name, entry in entries(config.output).items():
            if known.get(name) != entry:
                yield config.name, f"output {name!r}: expected {entry}, got {known.get(name)} from its steps"


def batches_fit(configs: Configs) -> Found:
    """No model hands more users to another than that takes."""
    for config in configs.values():
        called = steps(config)
        if ENCODER_PARAMETER in config.parameters:
            called.append(config.parameters[ENCODER_PARAMETER].string_value)
        for name in called:
            if name in configs and configs[name].max_batch_size < config.max_batch_size:
                yield (
                    config.name,
                    f"max_batch_size: expected at most {configs[name].max_batch_size} as {name} takes, got "
                    f"{config.max_batch_size}",
                )


def no_warmup_of_ensembles(configs: Configs) -> Found:
    """Triton does not warm ensembles up."""
    for config in ensembles(configs):
        if config.model_warmup:
            yield config.name, "model_warmup: expected none on an ensemble; warm its steps up"


RULES: tuple[Rule, ...] = (signatures_are_there, steps_fit, batches_fit, no_warmup_of_ensembles)
"""Of the configs of every target."""
