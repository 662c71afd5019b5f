"""From a cut to `configs/tensorrt.pbtxt` of every model: the same models, served as TensorRT engines on a GPU."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tritonclient.grpc import model_config_pb2

from cleave.builders.cut.cut import Cut
from cleave.builders.names import BATCH, ENCODER_PARAMETER, PLAN_FILE, PLAN_PLATFORM, PROFILES_PARAMETER
from cleave.builders.onnx_graph.sizes import Size
from cleave.builders.spec import Axis
from cleave.builders.targets.tensorrt.forms import profiles_of_cut
from cleave.builders.targets.tensorrt.profiles import OPT_BATCH, Profile, dims_of
from cleave.builders.triton.configs import base_configs
from cleave.builders.triton.graphs import artifacts_of

EXECUTION_CONTEXTS_PARAMETER = "execution_context_allocation_strategy"
EXECUTION_CONTEXTS = "ON_PROFILE_CHANGE"
"""Triton has an execution context for each profile, and by default each takes the memory of the largest of them."""

LEAST_FILLED = 2
"""Users that a graph for several is used from: for one there is another."""

GRAPH_BUCKETS = 2
"""Buckets of each axis that CUDA graphs are captured for, the one that holds `opt` and the one below: launching costs
as much as computing there. Longer requests compute long enough to hide it."""

Dims = Mapping[str, Sequence[int | str]]


def tensorrt_configs(cut: Cut, built: Mapping[str, Sequence[Profile]] | None = None) -> list[Any]:
    """The config of each model of the ranker, on TensorRT where it has a graph.

    An ensemble takes as many users at once as the least of its steps, a summary cache as many as its encoder.

    Args:
        built: the profiles of the engines that there are, by model; by default those of the forms that TensorRT should
            take.
    """
    graphs = {name: model for name, model in artifacts_of(cut).items() if model is not None}
    profiles = {**profiles_of_cut(cut), **(built or {})}
    changed = {config.name: config for config in base_configs(cut)}
    for name, model in graphs.items():
        dims = {value.name: dims_of(value) for value in model.graph.input}
        _to_engine(changed[name], profiles[name], dims, cut.ranker.axes)
    for config in changed.values():
        if ENCODER_PARAMETER in config.parameters:
            encoder = changed[config.parameters[ENCODER_PARAMETER].string_value]
            config.max_batch_size = encoder.max_batch_size
    for config in changed.values():
        steps = [changed[step.model_name].max_batch_size for step in config.ensemble_scheduling.step]
        config.max_batch_size = min([config.max_batch_size, *steps])
    return list(changed.values())


def _to_engine(config: Any, profiles: Sequence[Profile], dims: Dims, axes: Sequence[Axis]) -> None:
    config.backend, config.platform, config.default_model_filename = "tensorrt", PLAN_PLATFORM, PLAN_FILE
    config.max_batch_size = profiles[0].ranges[BATCH].max
    config.parameters[EXECUTION_CONTEXTS_PARAMETER].string_value = EXECUTION_CONTEXTS
    config.parameters[PROFILES_PARAMETER].string_value = json.dumps([profile.bounds() for profile in profiles])
    config.instance_group.add(
        count=1,
        kind=model_config_pb2.ModelInstanceGroup.KIND_GPU,
        profile=[str(place) for place in range(len(profiles))],
    )
    for place, profile in enumerate(profiles):
        _add_warmup(config, f"profile_{place}", profile.sizes("opt"), dims)
    config.optimization.cuda.graphs = True
    for batch, sizes in _graph_sizes(profiles[0], axes):
        _add_graph(config, batch, sizes, dims)


def _add_warmup(config: Any, name: str, sizes: Mapping[str, int], dims: Dims) -> None:
    """Requests of as many users, and of the sizes, that a profile is tuned for, all padding.

    The rows that they fill are those that graphs read: afterwards none holds what was in memory before.
    """
    warmup = config.model_warmup.add(name=name, batch_size=sizes[BATCH])
    for entry in config.input:
        given = warmup.inputs[entry.name]
        given.data_type, given.zero_data = entry.data_type, True
        given.dims.extend(_shape(dims[entry.name], {**sizes, BATCH: 1}))


def _graph_sizes(profile: Profile, axes: Sequence[Axis]) -> list[tuple[int, dict[str, int]]]:
    """Batches and sizes of the CUDA graphs, all in the profile of the usual sizes."""
    buckets = {
        axis.name: [bucket for bucket in axis.buckets if bucket in profile.ranges[axis.name]][-GRAPH_BUCKETS:]
        for axis in axes
        if axis.name in profile.ranges
    }
    batches = sorted({1, min(OPT_BATCH, profile.ranges[BATCH].max)})
    return [
        (batch, dict(zip(buckets, chosen, strict=True)))
        for batch in batches
        for chosen in itertools.product(*buckets.values())
    ]


def _add_graph(config: Any, batch: int, sizes: Mapping[str, int], dims: Dims) -> None:
    """A graph for exactly these sizes and for batches up to `batch`.

    Only the batch of a graph is ever partly filled: what lies in the rows of users who are not there is left over from
    other requests, and no user's row reads another's. Along an axis it would be read as events; there, requests are
    padded to the buckets that graphs are made for.
    """
    graph = config.optimization.cuda.graph_spec.add(batch_size=batch)
    bounds = [graph]
    if batch > 1:  # a graph for one user is for these sizes alone
        graph.graph_lower_bound.batch_size = LEAST_FILLED
        bounds.append(graph.graph_lower_bound)
    for bound in bounds:
        for name, shape in dims.items():
            bound.input[name].dim.extend(_shape(shape, {**sizes, BATCH: 1}))


def _shape(dims: Sequence[int | str], sizes: Mapping[str, int]) -> list[int]:
    """Without the batch, as configs write shapes."""
    return [Size.parse(dim).at(sizes) for dim in dims[1:]]
