"""From a cut to the `config.pbtxt` of every model: made through the protobuf, so that a misspelt field fails here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import np_to_triton_dtype

from cleave.builders.contract.origin import config_header
from cleave.builders.contract.signature import ServedAxis, ServedTensor, Signature
from cleave.builders.cut.cut import Cut
from cleave.builders.names import (
    CANDIDATE,
    CANDIDATE_SCORER,
    ENCODER_PARAMETER,
    HISTORY_ENCODER,
    MAX_AGE_PARAMETER,
    OUTPUT,
    REQUEST,
    SIGNATURE_PARAMETER,
    SUMMARY,
    SUMMARY_CACHE,
    SUMMARY_STATUS,
    UNCACHED,
    USER,
    USER_ID,
    VARIABLE,
    WHOLE,
    Role,
    model_name,
)
from cleave.builders.spec import Axis, Ranker

MAX_BATCH_SIZE = 64
"""Requests that the dynamic batcher joins at most, and rows of one request; the same in every model, as an ensemble's
must not exceed its steps'."""

MAX_SUMMARY_AGE_S = 24 * 3600
"""How old a summary may be that is used for a user named by id alone. VISTA refreshes its summaries every two hours and
finds them as good as live ones; a day leaves room for users who were not refreshed. `cleave serve --max-age` overrides
it."""

STRING = "STRING"

ModelKind = Literal["graph", "ensemble", "summary_cache"]
"""A graph of its own, a sequence of other models, or what keeps summaries and calls the encoder where it has none."""

Group = Role | Literal["user_id", "summary_status"]
"""All tensors of a role, or the one of this name that served models have beside those of the ranker."""


@dataclass(frozen=True)
class RepositoryModel:
    """One model of the repository: what it takes and gives, and which others it calls."""

    name: str
    """As in `cleave.builders.names`."""
    kind: ModelKind
    inputs: tuple[Group, ...]
    outputs: tuple[Group, ...]
    steps: tuple[str, ...] = ()
    """The models that it calls, in this order."""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def optional(self) -> tuple[Group, ...]:
        """Inputs that may be left out: with a kept summary, a user is named by id, by the user's inputs, or by both."""
        return (USER_ID, USER) if USER_ID in self.inputs else ()


REPOSITORY_MODELS = (
    RepositoryModel(WHOLE, "graph", (USER, REQUEST, CANDIDATE), (OUTPUT,)),
    RepositoryModel(HISTORY_ENCODER, "graph", (USER,), (SUMMARY,)),
    RepositoryModel(CANDIDATE_SCORER, "graph", (SUMMARY, REQUEST, CANDIDATE), (OUTPUT,)),
    RepositoryModel(UNCACHED, "ensemble", (USER, REQUEST, CANDIDATE), (OUTPUT,), (HISTORY_ENCODER, CANDIDATE_SCORER)),
    RepositoryModel(
        SUMMARY_CACHE,
        "summary_cache",
        (USER_ID, USER),
        (SUMMARY, SUMMARY_STATUS),
        (HISTORY_ENCODER,),
        parameters={MAX_AGE_PARAMETER: str(MAX_SUMMARY_AGE_S)},
    ),
    RepositoryModel(
        "",
        "ensemble",
        (USER_ID, USER, REQUEST, CANDIDATE),
        (OUTPUT, SUMMARY_STATUS),
        (SUMMARY_CACHE, CANDIDATE_SCORER),
    ),
)
"""The models that a ranker becomes. Another part of the cut is another row."""


def texts_of(configs: Sequence[Any], build_command: str) -> dict[str, str]:
    """The text of each config's file, by model; `build_command` is what a build says of itself in its manifests."""
    header = config_header(build_command)
    return {config.name: header + text_format.MessageToString(config) for config in configs}


def base_configs(cut: Cut) -> list[Any]:
    """The config of each model of the ranker; a target gives those of `graph_models` a backend and instances."""
    tensors = _tensors(cut)
    return [_config(model, cut.ranker, tensors) for model in REPOSITORY_MODELS]


def graph_models(ranker: str) -> list[str]:
    """The names of the models that have a graph."""
    return [model_name(ranker, model.name) for model in REPOSITORY_MODELS if model.kind == "graph"]


def signature_of(config: Any) -> Signature:
    """What a config publishes of axes, roles and padding.

    Raises:
        RecordError: it publishes no signature.
    """
    return Signature.from_json(config.parameters[SIGNATURE_PARAMETER].string_value)


@dataclass(frozen=True)
class _ConfigTensor:
    """One input or output of a config."""

    name: str
    dtype: str
    served: ServedTensor

    @property
    def type(self) -> Any:
        """As the protobuf numbers it."""
        name = self.dtype if self.dtype == STRING else np_to_triton_dtype(np.dtype(self.dtype))
        return model_config_pb2.DataType.Value(f"TYPE_{name}")

    @property
    def dims(self) -> list[int]:
        """One value a user has a dimension, too: see `cleave.builders.passes.unit_axes`."""
        return [VARIABLE if isinstance(axis, str) else axis for axis in self.served.axes] or [1]


_Tensors = Mapping[Group, Sequence[_ConfigTensor]]


def _tensors(cut: Cut) -> _Tensors:
    """What each group of tensors holds."""
    groups: dict[Group, list[_ConfigTensor]] = {
        USER_ID: [_ConfigTensor(USER_ID, STRING, ServedTensor((), USER_ID))],
        SUMMARY_STATUS: [_ConfigTensor(SUMMARY_STATUS, STRING, ServedTensor(()))],
        SUMMARY: [
            _ConfigTensor(
                tensor.name, tensor.dtype, ServedTensor(tuple(size.symbol for size in tensor.dims[1:]), SUMMARY)
            )
            for tensor in cut.summary
        ],
        **{role: [] for role in (USER, REQUEST, CANDIDATE, OUTPUT)},
    }
    for role, tensor in cut.ranker.tensors():
        axes = tuple(axis.name if isinstance(axis, Axis) else axis for axis in tensor.axes)
        groups[role].append(_ConfigTensor(tensor.name, tensor.dtype, ServedTensor(axes, role, tensor.pad)))
    return groups


def _joined(groups: Sequence[Group], tensors: _Tensors) -> list[_ConfigTensor]:
    return list(itertools.chain.from_iterable(tensors[group] for group in groups))


def _config(model: RepositoryModel, ranker: Ranker, tensors: _Tensors) -> Any:
    config = model_config_pb2.ModelConfig(name=model_name(ranker.name, model.name), max_batch_size=MAX_BATCH_SIZE)
    optional = _joined(model.optional, tensors)
    for tensor in _joined(model.inputs, tensors):
        config.input.add(name=tensor.name, data_type=tensor.type, dims=tensor.dims, optional=tensor in optional)
    for tensor in _joined(model.outputs, tensors):
        config.output.add(name=tensor.name, data_type=tensor.type, dims=tensor.dims)
    parameters = {SIGNATURE_PARAMETER: _signature(model, ranker, tensors).to_json(), **model.parameters}
    for name, text in parameters.items():
        config.parameters[name].string_value = text
    _FILL[model.kind](config, model, ranker.name, tensors)
    return config


def _signature(model: RepositoryModel, ranker: Ranker, tensors: _Tensors) -> Signature:
    inputs, outputs = _joined(model.inputs, tensors), _joined(model.outputs, tensors)
    # A summary may have an axis that no other tensor of the model has: its sizes are not for clients to choose.
    names = [axis for tensor in inputs + outputs if tensor.served.role != SUMMARY for axis in tensor.served.axes]
    limits = {
        axis.name: ServedAxis(axis.min, axis.opt, axis.max, axis.buckets, axis.padding_side, axis.min_real)
        for axis in ranker.axes
    }
    return Signature(
        axes={name: limits[name] for name in dict.fromkeys(names) if isinstance(name, str)},
        inputs={tensor.name: tensor.served for tensor in inputs},
        outputs={tensor.name: ServedTensor(tensor.served.axes) for tensor in outputs},
        summary_cache=model_name(ranker.name, SUMMARY_CACHE) if USER_ID in model.inputs else None,
    )


def _fill_graph(config: Any, model: RepositoryModel, ranker: str, tensors: _Tensors) -> None:
    # An idle instance waits for nobody, and what comes while it is busy is joined. With a delay of 0.5 ms, batches of
    # 16 clients (vista and append, n = 1024, m = 512) were no larger, and one client waited 0.5 ms longer.
    config.dynamic_batching.SetInParent()


def _fill_summary_cache(config: Any, model: RepositoryModel, ranker: str, tensors: _Tensors) -> None:
    config.backend = "summary_cache"
    for entry in config.input:
        entry.allow_ragged_batch = True  # each request is a history of its own
    config.dynamic_batching.SetInParent()
    config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    (encoder,) = model.steps
    config.parameters[ENCODER_PARAMETER].string_value = model_name(ranker, encoder)


def _fill_ensemble(config: Any, model: RepositoryModel, ranker: str, tensors: _Tensors) -> None:
    config.platform = "ensemble"
    by_name = {each.name: each for each in REPOSITORY_MODELS}
    for called in model.steps:
        step = config.ensemble_scheduling.step.add(model_name=model_name(ranker, called), model_version=-1)
        for tensor in _joined(by_name[called].inputs, tensors):
            step.input_map[tensor.name] = tensor.name
        for tensor in _joined(by_name[called].outputs, tensors):
            step.output_map[tensor.name] = tensor.name


_FILL: Mapping[ModelKind, Callable[[Any, RepositoryModel, str, _Tensors], None]] = {
    "graph": _fill_graph,
    "ensemble": _fill_ensemble,
    "summary_cache": _fill_summary_cache,
}
