"""A repository small enough to check by hand: a cut ranker, a lookup that refuses ids, and one tensor of each type."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf import json_format, text_format
from numpy.typing import NDArray
from onnx import numpy_helper
from tritonclient.grpc import model_config_pb2

from cleave.builders.contract.manifest import Manifest, write_manifest
from cleave.builders.files import sha256_of
from cleave.builders.names import SIGNATURE_PARAMETER, VERSION_FOLDER
from cleave.builders.spec import Axis

Arrays = dict[str, NDArray[Any]]

HISTORY = Axis("history", min=1, opt=4, max=32)
CANDIDATES = Axis("candidates", min=1, opt=8, max=64)
NUM_ITEMS = 50
NUM_HOURS = 24
MAX_BATCH = 8
LOOKUP_BATCH = 3
LOOKUP_DELAY_US = 500_000
FINGERPRINT = "f" * 64

_HEADER = '<ir_version: 10, opset_import: ["": 20]>'
_ENCODER_NODES = """
    [encoder_look] rows = Gather (items, history_items)
    [encoder_spread] factors = Unsqueeze (history_weights, last)
    [encoder_weigh] weighted = Mul (rows, factors)
    [encoder_sum] history_sum = ReduceSum <keepdims = 0> (weighted, middle)
    [encoder_mask] history_mask = Greater (history_items, padding)"""
_SCORER_NODES = """
    [scorer_look] candidate_rows = Gather (items, candidate_items)
    [scorer_user] user = Unsqueeze (history_sum, middle)
    [scorer_match] products = Mul (user, candidate_rows)
    [scorer_sum] matches = ReduceSum <keepdims = 0> (products, last)
    [scorer_tags] tags = ReduceSum <keepdims = 0> (candidate_tags, last)
    [scorer_count] counted = Cast <to = 1> (history_mask)
    [scorer_length] length = ReduceSum <keepdims = 1> (counted, middle)
    [scorer_hour] hour = Gather (hours, request_hour)
    [scorer_column] hour_column = Unsqueeze (hour, middle)
    [scorer_a] tagged = Add (matches, tags)
    [scorer_b] counted_in = Add (tagged, length)
    [scorer_c] scores = Add (counted_in, hour_column)"""
_USER = "int64[batch, history] history_items, float[batch, history] history_weights"
_SUMMARY = "float[batch, 4] history_sum, bool[batch, history] history_mask"
_REST = (
    "int64[batch] request_hour, int64[batch, candidates] candidate_items, float[batch, candidates, 3] candidate_tags"
)
_SCORES = "float[batch, candidates] scores"
_GRAPHS = {
    "toy_history_encoder": f"{_HEADER} g ({_USER}) => ({_SUMMARY}) {{ {_ENCODER_NODES} }}",
    "toy_candidate_scorer": f"{_HEADER} g ({_SUMMARY}, {_REST}) => ({_SCORES}) {{ {_SCORER_NODES} }}",
    "toy_whole": f"{_HEADER} g ({_USER}, {_REST}) => ({_SCORES}) {{ {_ENCODER_NODES} {_SCORER_NODES} }}",
    "lookup_whole": f"{_HEADER} g (int64[batch, n] ids, float[batch, n] factors) => (float[batch, n, 4] found) "
    "{ [shift] shifted = Add (ids, padding) [look] rows = Gather (items, shifted) "
    "[spread] columns = Unsqueeze (factors, last) [weigh] found = Mul (rows, columns) }",
}

TYPES = {
    "a_bool": ("BOOL", "bool", "bool"),
    "an_int8": ("INT8", "int8", "int8"),
    "a_uint8": ("UINT8", "uint8", "uint8"),
    "an_int32": ("INT32", "int32", "int32"),
    "an_int64": ("INT64", "int64", "int64"),
    "a_float16": ("FP16", "float16", "float16"),
    "a_float32": ("FP32", "float32", "float"),
    "a_float64": ("FP64", "float64", "double"),
}
"""Inputs of `types_whole`, which gives each back as `same_<name>`: Triton's, numpy's and ONNX' names of the type."""

_user = [("history_items", "INT64", [-1]), ("history_weights", "FP32", [-1])]
_summary = [("history_sum", "FP32", [4]), ("history_mask", "BOOL", [-1])]
_rest = [("request_hour", "INT64", []), ("candidate_items", "INT64", [-1]), ("candidate_tags", "FP32", [-1, 3])]
_scores = [("scores", "FP32", [-1])]
_SIGNATURE: dict[str, tuple[str, list[str | int]]] = {
    "history_items": ("user", ["history"]),
    "history_weights": ("user", ["history"]),
    "history_sum": ("summary", [4]),
    "history_mask": ("summary", ["history"]),
    "request_hour": ("request", []),
    "candidate_items": ("candidate", ["candidates"]),
    "candidate_tags": ("candidate", ["candidates", 3]),
}

Entries = Sequence[tuple[str, str, list[int]]]


def graph(model: str) -> onnx.ModelProto:
    """The ONNX model of a model of the toy repository."""
    if model == "types_whole":
        inputs = ", ".join(f"{onnx_type}[batch, n] {name}" for name, (_, _, onnx_type) in TYPES.items())
        outputs = ", ".join(f"{onnx_type}[batch, n] same_{name}" for name, (_, _, onnx_type) in TYPES.items())
        nodes = " ".join(f"same_{name} = Identity ({name})" for name in TYPES)
        return onnx.parser.parse_model(f"{_HEADER} g ({inputs}) => ({outputs}) {{ {nodes} }}")
    parsed = onnx.parser.parse_model(_GRAPHS[model])
    rng = np.random.default_rng(0)
    weights = {
        "items": rng.standard_normal((NUM_ITEMS, 4)).astype(np.float32),
        "hours": rng.standard_normal(NUM_HOURS).astype(np.float32),
        "middle": np.array([1]),
        "last": np.array([2]),
        "padding": np.array(0),
    }
    used = {name for node in parsed.graph.node for name in node.input}
    parsed.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in weights.items() if name in used)
    return parsed


def config(model: str) -> Any:
    """The config of a model of the toy repository."""
    if model == "types_whole":
        entries = [(name, triton, [-1]) for name, (triton, _, _) in TYPES.items()]
        return _config(model, entries, [(f"same_{name}", triton, dims) for name, triton, dims in entries], signed=False)
    if model == "lookup_whole":
        inputs = [("ids", "INT64", [-1]), ("factors", "FP32", [-1])]
        made = _config(model, inputs, [("found", "FP32", [-1, 4])], signed=False)
        made.max_batch_size = LOOKUP_BATCH
        made.dynamic_batching.max_queue_delay_microseconds = LOOKUP_DELAY_US
        return made
    if model == "toy_uncached":
        return _ensemble(
            model, {"toy_history_encoder": (_user, _summary), "toy_candidate_scorer": ([*_summary, *_rest], _scores)}
        )
    parts = {
        "toy_history_encoder": (_user, _summary),
        "toy_candidate_scorer": ([*_summary, *_rest], _scores),
        "toy_whole": ([*_user, *_rest], _scores),
    }
    return _config(model, *parts[model])


def triton_config(made: Any) -> dict[str, Any]:
    """A config as Triton gives it to a backend."""
    given: dict[str, Any] = json_format.MessageToDict(
        made, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return given


def _config(model: str, inputs: Entries, outputs: Entries, signed: bool = True) -> Any:
    made = model_config_pb2.ModelConfig(name=model, backend="onnxruntime", max_batch_size=MAX_BATCH)
    _fill(made, inputs, outputs, reshape=True)
    made.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    made.dynamic_batching.max_queue_delay_microseconds = 1000
    if signed:
        made.parameters[SIGNATURE_PARAMETER].string_value = _signature(inputs, outputs)
    return made


def _ensemble(model: str, steps: Mapping[str, tuple[Entries, Entries]]) -> Any:
    made = model_config_pb2.ModelConfig(name=model, platform="ensemble", max_batch_size=MAX_BATCH)
    _fill(made, [*_user, *_rest], _scores, reshape=False)
    for step_model, (inputs, outputs) in steps.items():
        step = made.ensemble_scheduling.step.add(model_name=step_model, model_version=-1)
        for field, entries in ((step.input_map, inputs), (step.output_map, outputs)):
            for name, _, _ in entries:
                field[name] = name
    return made


def _fill(made: Any, inputs: Entries, outputs: Entries, reshape: bool) -> None:
    for field, entries in ((made.input, inputs), (made.output, outputs)):
        for name, kind, dims in entries:
            entry = field.add(name=name, data_type=model_config_pb2.DataType.Value(f"TYPE_{kind}"), dims=dims or [1])
            if reshape and not dims:
                entry.reshape.SetInParent()


def _signature(inputs: Entries, outputs: Entries) -> str:
    axes = {a.name: {"min": a.min, "opt": a.opt, "max": a.max, "buckets": a.buckets} for a in (HISTORY, CANDIDATES)}
    described = {name: {"role": _SIGNATURE[name][0], "axes": _SIGNATURE[name][1], "pad": 0} for name, _, _ in inputs}
    return json.dumps(
        {"axes": axes, "inputs": described, "outputs": {name: {"axes": dims} for name, _, dims in outputs}}
    )


MODELS = ("toy_history_encoder", "toy_candidate_scorer", "toy_whole", "toy_uncached", "lookup_whole", "types_whole")


def write(repository: Path, models: Sequence[str] = MODELS, fingerprint: str = FINGERPRINT) -> Path:
    """Write models of the toy repository as a build would."""
    for model in models:
        write_model(repository, model, config(model), None if model == "toy_uncached" else graph(model), fingerprint)
    return repository


def write_model(
    repository: Path, model: str, model_config: Any, model_graph: onnx.ModelProto | None, fingerprint: str = FINGERPRINT
) -> None:
    """Write config, artifact and manifest of one model."""
    ranker = model.partition("_")[0]
    folder = repository / model / VERSION_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "config.pbtxt").write_text(text_format.MessageToString(model_config))
    artifact = folder / "model.onnx"
    if model_graph is not None:
        artifact.write_bytes(model_graph.SerializeToString())
    write_manifest(
        folder,
        Manifest(
            model=model,
            ranker=ranker,
            fingerprint=fingerprint,
            artifact=artifact.name if model_graph else None,
            sha256=sha256_of(artifact) if model_graph else None,
            build_command=f"cleave build {ranker}",
            versions={},
        ),
    )


def parts_of(arrays: Arrays) -> list[Arrays]:
    """The requests of single users that `arrays` holds."""
    users = len(next(iter(arrays.values())))
    return [{name: array[user : user + 1] for name, array in arrays.items()} for user in range(users)]


def graph_inputs(arrays: Arrays) -> Arrays:
    """Inputs as the graph reads them: one value a user has no axis."""
    return {name: array[:, 0] if name == "request_hour" else array for name, array in arrays.items()}


def request(rng: np.random.Generator, history: int = 4, candidates: int = 8, users: int = 1) -> Arrays:
    """Valid inputs of `toy_whole` and `toy_uncached`, as a client sends them."""
    return {
        "history_items": rng.integers(0, NUM_ITEMS, (users, history)),
        "history_weights": rng.standard_normal((users, history)).astype(np.float32),
        "request_hour": rng.integers(0, NUM_HOURS, (users, 1)),
        "candidate_items": rng.integers(0, NUM_ITEMS, (users, candidates)),
        "candidate_tags": rng.standard_normal((users, candidates, 3)).astype(np.float32),
    }
