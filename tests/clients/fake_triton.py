"""A Triton that lives in the test's process, so that a test decides when and how it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

Arrays = dict[str, NDArray[Any]]

MODEL = "toy_uncached"
HISTORY_BUCKETS, CANDIDATE_BUCKETS = [16, 32, 64], [4, 16]
MAX_HISTORY, MAX_CANDIDATES = HISTORY_BUCKETS[-1], CANDIDATE_BUCKETS[-1]
MAX_BATCH = 8
VISIT_PAD, ITEM_PAD = -1, -2

SIGNATURE: dict[str, Any] = {
    "axes": {
        "history": {"min": 1, "opt": 16, "max": MAX_HISTORY, "buckets": HISTORY_BUCKETS},
        "candidates": {"min": 1, "opt": 16, "max": MAX_CANDIDATES, "buckets": CANDIDATE_BUCKETS},
    },
    "inputs": {
        "visits": {"role": "user", "axes": ["history"], "pad": VISIT_PAD},
        "visit_weights": {"role": "user", "axes": ["history"], "pad": 0},
        "hour": {"role": "request", "axes": [], "pad": 0},
        "items": {"role": "candidate", "axes": ["candidates"], "pad": ITEM_PAD},
        "features": {"role": "candidate", "axes": ["candidates", 3], "pad": 0},
    },
    "outputs": {"scores": {"axes": ["candidates"]}, "logits": {"axes": ["candidates", 2]}},
}
DTYPES = {
    "visits": "int64",
    "visit_weights": "float32",
    "hour": "int8",
    "items": "int64",
    "features": "float32",
    "scores": "float32",
    "logits": "float32",
}


def toy(inputs: Arrays) -> Arrays:
    """Scores that every input has a part in; those of padded candidates are NaN, and padded visits have no effect."""
    visits = np.where(inputs["visits"] == VISIT_PAD, 0, inputs["visits"] * inputs["visit_weights"])
    user = visits.sum(axis=1, keepdims=True) + inputs["hour"]
    scores = np.where(inputs["items"] == ITEM_PAD, np.nan, inputs["items"] + inputs["features"].sum(axis=2) + user)
    return {"scores": scores.astype(np.float32), "logits": np.stack([scores, -scores], axis=2).astype(np.float32)}


def _values(datatype: str, content: bytes) -> NDArray[Any]:
    if datatype == "BYTES":
        return np.asarray(deserialize_bytes_tensor(content))
    return np.frombuffer(content, triton_to_np_dtype(datatype))


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Serves one model: `infer` is what it computes, the other attributes are what it says of itself."""

    def __init__(self) -> None:
        self.model = MODEL
        self.tensors: dict[str, Any] = SIGNATURE
        self.dtypes: dict[str, str] = DTYPES
        self.infer: Callable[[Arrays, grpc.ServicerContext], Arrays] = lambda inputs, _: toy(inputs)
        self.signature: dict[str, Any] | None = SIGNATURE
        self.max_batch_size = MAX_BATCH
        self.optional: set[str] = set()
        self.asked: list[tuple[str, set[str]]] = []
        """Model and flags of each request."""
        self.requests: list[Arrays] = []
        self.version = "1"
        self.described: Callable[[], object] = lambda: None
        """Called after each description."""
        self.num_descriptions = 0
        self.ballast_bytes = 0
        self.released = threading.Event()
        self.port = 0
        self._server: grpc.Server | None = None

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        # Several servers of one port would share its calls.
        options = [("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8), options=options)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()
        self.released.clear()

    def stop(self) -> None:
        self.released.set()
        if self._server is not None:
            self._server.stop(grace=None).wait()

    def hang(self, inputs: Arrays, _: grpc.ServicerContext) -> Arrays:
        """As `infer`: answer when the test is over."""
        self.released.wait(timeout=60)
        return toy(inputs)

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - gRPC's name
        self._check_name(request.name, context)
        answer = service_pb2.ModelMetadataResponse(name=request.name, versions=[self.version])
        for kind in ("inputs", "outputs"):
            for name, tensor in self.tensors[kind].items():
                dims = [axis if isinstance(axis, int) else -1 for axis in tensor["axes"]] or [1]
                shape = [-1] * (self.max_batch_size > 0) + dims
                datatype = np_to_triton_dtype(np.dtype(self.dtypes[name]))
                getattr(answer, kind).add(name=name, datatype=datatype, shape=shape)
        return answer

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._check_name(request.name, context)
        self._check_version(request.name, request.version, context)
        self.num_descriptions += 1
        config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=self.max_batch_size)
        if self.signature is not None:
            config.parameters["cleave_signature"].string_value = json.dumps(self.signature)
        for name in self.tensors["inputs"]:
            config.input.add(name=name, optional=name in self.optional)
        self.described()
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._check_version(request.model_name, request.model_version, context)
        inputs = {
            tensor.name: _values(tensor.datatype, content).reshape(tuple(tensor.shape))
            for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        self.requests.append(inputs)
        self.asked.append((request.model_name, {name for name, flag in request.parameters.items() if flag.bool_param}))
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=self.version)
        outputs = self.infer(inputs, context)
        for name in [output.name for output in request.outputs if output.name in outputs]:
            array = outputs[name]
            answer.outputs.add(name=name, shape=array.shape, datatype=np_to_triton_dtype(array.dtype))
            content = serialize_byte_tensor(array).item() if array.dtype.hasobject else array.tobytes()
            answer.raw_output_contents.append(content)
        answer.parameters["ballast"].string_param = "x" * self.ballast_bytes
        return answer

    def _check_name(self, name: str, context: grpc.ServicerContext) -> None:
        if name != self.model:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")

    def _check_version(self, name: str, version: str, context: grpc.ServicerContext) -> None:
        if version not in ("", self.version):
            words = f"Request for unknown model: '{name}' version {version} is not found"
            context.abort(grpc.StatusCode.NOT_FOUND, words)
