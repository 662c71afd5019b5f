"""The toy ranker with a summary cache, and an encoder that waits while a test tells it to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from tritonclient.grpc import model_config_pb2

from cleave.builders.names import ENCODER_PARAMETER, MAX_AGE_PARAMETER, SIGNATURE_PARAMETER
from cleave.clients import RankerClient
from cleave.serving.server.triton import TritonServer
from cleave.serving.variables import MAX_AGE_VARIABLE, STORE_VARIABLE
from tests.serving import toy

MODELS = ("toy", "toy_candidate_scorer", "toy_history_encoder", "toy_summary_cache", "toy_uncached", "toy_whole")
GATED_ITEM = toy.NUM_ITEMS - 1
"""A history with this item waits at the gate, if that is closed."""

OUTPUT_AXES = {"scores": "candidates", "history_mask": "history"}
GATE_PARAMETER = "gate"
NUM_CANDIDATES = 8
PATIENCE_S = 60.0

_GATED_ENCODER = f'''
import json, pathlib, time
from cleave.serving.backends.onnxruntime import model

class TritonPythonModel(model.TritonPythonModel):
    def initialize(self, args):
        config = json.loads(args["model_config"])
        config["default_model_filename"] = "model.onnx"
        super().initialize({{**args, "model_config": json.dumps(config)}})
        self.folder = pathlib.Path(config["parameters"]["{GATE_PARAMETER}"]["string_value"])

        self.ungated, self.model.run = self.model.run, self.run

    def run(self, requests):
        items = [request.inputs["history_items"] for request in requests]
        while (self.folder / "closed").exists() and any(({GATED_ITEM} == each).any() for each in items):
            (self.folder / "reached").touch()
            time.sleep(0.005)
        return self.ungated(requests)
'''


def write(
    repository: Path, gate: Path, *, weights: float = 1.0, fingerprint: str = "1" * 64, instances: int = 1
) -> Path:
    """Write the repository; `weights` scales what the encoder looks up."""
    toy.write(repository, ("toy_candidate_scorer", "toy_whole"), fingerprint)
    uncached = toy.config("toy_uncached")
    uncached.parameters[SIGNATURE_PARAMETER].string_value = _signature(toy.config("toy_whole"))
    toy.write_model(repository, "toy_uncached", uncached, None, fingerprint)
    encoder = toy.config("toy_history_encoder")
    encoder.backend = "python"
    encoder.parameters[GATE_PARAMETER].string_value = str(gate)
    toy.write_model(repository, "toy_history_encoder", encoder, _graph(weights), fingerprint)
    (repository / "toy_history_encoder" / "1" / "model.py").write_text(_GATED_ENCODER)
    toy.write_model(repository, "toy_summary_cache", _cache_config(encoder, instances), None, fingerprint)
    toy.write_model(repository, "toy", _ensemble_config(encoder), None, fingerprint)
    return repository


def variables(store_url: str, max_age_s: float | None = None) -> tuple[tuple[str, str], ...]:
    """The environment of a server, as `serve` takes it."""
    return ((STORE_VARIABLE, store_url), (MAX_AGE_VARIABLE, "" if max_age_s is None else str(max_age_s)))


def _graph(weights: float) -> onnx.ModelProto:
    graph = toy.graph("toy_history_encoder")
    for tensor in graph.graph.initializer:
        if tensor.name == "items":
            scaled: NDArray[Any] = numpy_helper.to_array(tensor) * np.float32(weights)
            tensor.CopyFrom(numpy_helper.from_array(scaled, "items"))
    return graph


def _cache_config(encoder: Any, instances: int) -> Any:
    made = model_config_pb2.ModelConfig(
        name="toy_summary_cache", backend="summary_cache", max_batch_size=encoder.max_batch_size
    )
    _add_user(made, encoder)
    for entry in made.input:
        entry.allow_ragged_batch = True
    made.output.extend(encoder.output)
    _add_status(made)
    made.dynamic_batching.SetInParent()
    made.instance_group.add(count=instances, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    made.parameters[ENCODER_PARAMETER].string_value = encoder.name
    made.parameters[MAX_AGE_PARAMETER].string_value = "3600"
    _sign(made, encoder)
    return made


def _ensemble_config(encoder: Any) -> Any:
    made = model_config_pb2.ModelConfig(name="toy", platform="ensemble", max_batch_size=encoder.max_batch_size)
    scorer, whole = toy.config("toy_candidate_scorer"), toy.config("toy_uncached")
    _add_user(made, encoder)
    made.input.extend(entry for entry in whole.input if not entry.name.startswith("history"))
    made.output.extend(whole.output)
    _add_status(made)
    user, summary = [entry.name for entry in encoder.input], [entry.name for entry in encoder.output]
    for model, inputs, outputs in (
        ("toy_summary_cache", ["user_id", *user], [*summary, "summary_status"]),
        (scorer.name, [entry.name for entry in scorer.input], ["scores"]),
    ):
        step = made.ensemble_scheduling.step.add(model_name=model, model_version=-1)
        for field, names in ((step.input_map, inputs), (step.output_map, outputs)):
            for name in names:
                field[name] = name
    _sign(made, toy.config("toy_whole"))
    return made


def _add_user(made: Any, encoder: Any) -> None:
    made.input.add(name="user_id", data_type=model_config_pb2.TYPE_STRING, dims=[1])
    made.input.extend(encoder.input)
    for entry in made.input:
        entry.optional = True


def _add_status(made: Any) -> None:
    made.output.add(name="summary_status", data_type=model_config_pb2.TYPE_STRING, dims=[1])


def _sign(made: Any, whole: Any) -> None:
    signature = json.loads(_signature(whole))
    signature["inputs"]["user_id"] = {"role": "user_id", "axes": [], "pad": 0}
    signature["outputs"]["summary_status"] = {"axes": []}
    signature["summary_cache"] = "toy_summary_cache"
    made.parameters[SIGNATURE_PARAMETER].string_value = json.dumps(signature)


def _signature(made: Any) -> str:
    """What the toy publishes, with the axes of its outputs by name."""
    signature = json.loads(made.parameters[SIGNATURE_PARAMETER].string_value)
    for name, entry in signature["outputs"].items():
        entry["axes"] = [OUTPUT_AXES[name] if axis == -1 else axis for axis in entry["axes"]]
    return json.dumps(signature)


class Gate:
    """Keeps the encoder from answering."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def closed(self) -> Iterator[None]:
        (self.folder / "closed").touch()
        try:
            yield
        finally:
            (self.folder / "closed").unlink()
            (self.folder / "reached").unlink(missing_ok=True)

    def wait_until_reached(self) -> None:
        """Return when the encoder waits."""
        wait_until((self.folder / "reached").exists)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def history(*items: int) -> dict[str, Any]:
    """A user's events; their weights tell their places."""
    return {"history_items": np.array(items), "history_weights": np.linspace(1, 2, len(items), dtype=np.float32)}


def rest(seed: int = 0) -> dict[str, Any]:
    """The other arguments of `rank`."""
    rng = np.random.default_rng(seed)
    return {
        "candidates": {
            "candidate_items": rng.integers(0, toy.NUM_ITEMS, NUM_CANDIDATES),
            "candidate_tags": rng.standard_normal((NUM_CANDIDATES, 3)).astype(np.float32),
        },
        "request": {"request_hour": 3},
    }


def uncached(server: TritonServer, given: Mapping[str, Any], seed: int = 0) -> Any:
    """The scores of the arm that keeps nothing."""
    with RankerClient(server.grpc_url, "toy_uncached") as client:
        return client.rank(history=given, **rest(seed)).scores
