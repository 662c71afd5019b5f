"""Requests that no client library would send: the server answers each, and goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from cleave.serving.server.triton import TritonServer
from tests.serving import toy

NUM_MUTATIONS = 1000
MOST_AT_ONCE = 3
DEADLINE_S = 10
CLEAR_STATUS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}

DATA_TYPES = ["BOOL", "INT8", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES", "BF16", "", "NONSENSE"]
SIZES = [-(2**63), -1, 0, 1, 2, 7, 33, 65, 1000, 2**31, 2**63 - 1]
NAMES = ["", "nobody", "history_items", "candidate_tags", "scores", "x" * 1000]
NUMBERS = [-(2**63), -51, -1, 50, 2**31, 2**63 - 1]
FLOATS = [np.nan, np.inf, -np.inf, 3e38, -0.0, 1e-45]

Request = Any
Mutation = Callable[[Request, np.random.Generator], None]


def _valid(model: str) -> Request:
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, array in toy.request(np.random.default_rng(0)).items():
        kind = "INT64" if array.dtype == np.int64 else "FP32"
        request.inputs.add(name=name, datatype=kind, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def _pick(rng: np.random.Generator, items: Any) -> Any:
    return items[int(rng.integers(len(items)))]


def _other_type(request: Request, rng: np.random.Generator) -> None:
    _pick(rng, request.inputs).datatype = _pick(rng, DATA_TYPES)


def _other_size(request: Request, rng: np.random.Generator) -> None:
    shape = _pick(rng, request.inputs).shape
    if shape:
        shape[int(rng.integers(len(shape)))] = _pick(rng, SIZES)


def _other_size_of_an_axis(request: Request, rng: np.random.Generator) -> None:
    """Shapes and bytes agree, which leads past Triton's own checks."""
    history, candidates = (int(rng.integers(0, 70)) for _ in range(2))
    users = int(rng.integers(1, 12))
    for place, array in enumerate(toy.request(rng, history, candidates, users).values()):
        if place < min(len(request.inputs), len(request.raw_input_contents)):
            request.inputs[place].shape[:] = array.shape
            request.raw_input_contents[place] = array.tobytes()


def _other_rank(request: Request, rng: np.random.Generator) -> None:
    shape = _pick(rng, request.inputs).shape
    shape[:] = [*shape, 1] if rng.random() < 0.5 else shape[1:]


def _other_name(request: Request, rng: np.random.Generator) -> None:
    _pick(rng, request.inputs).name = _pick(rng, NAMES)


def _fewer_inputs(request: Request, rng: np.random.Generator) -> None:
    del request.inputs[int(rng.integers(len(request.inputs)))]


def _fewer_contents(request: Request, rng: np.random.Generator) -> None:
    if request.raw_input_contents:
        del request.raw_input_contents[int(rng.integers(len(request.raw_input_contents)))]


def _twice(request: Request, rng: np.random.Generator) -> None:
    request.inputs.append(_pick(rng, request.inputs))
    request.raw_input_contents.append(b"\0" * 8)


def _other_bytes(request: Request, rng: np.random.Generator) -> None:
    if request.raw_input_contents:
        place = int(rng.integers(len(request.raw_input_contents)))
        request.raw_input_contents[place] = rng.bytes(len(request.raw_input_contents[place]))


def _other_length(request: Request, rng: np.random.Generator) -> None:
    if request.raw_input_contents:
        place = int(rng.integers(len(request.raw_input_contents)))
        request.raw_input_contents[place] = rng.bytes(int(rng.integers(0, 200)))


def _other_value(request: Request, rng: np.random.Generator) -> None:
    if not request.raw_input_contents:
        return
    place = int(rng.integers(len(request.raw_input_contents)))
    content = request.raw_input_contents[place]
    if len(content) >= 8:
        integer = rng.random() < 0.5
        value = np.array(_pick(rng, NUMBERS)) if integer else np.array(_pick(rng, FLOATS), np.float32)
        request.raw_input_contents[place] = value.tobytes() + content[value.nbytes :]


def _typed_contents(request: Request, rng: np.random.Generator) -> None:
    del request.raw_input_contents[:]
    for entry in request.inputs:
        count = int(rng.integers(0, 10))
        entry.contents.int64_contents.extend([1] * count)
        entry.contents.fp32_contents.extend([1.0] * int(rng.integers(0, 2)) * count)


def _other_output(request: Request, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 3))):
        request.outputs.add(name=_pick(rng, NAMES))


def _parameters(request: Request, rng: np.random.Generator) -> None:
    name = _pick(rng, ["sequence_id", "priority", "timeout", "shared_memory_region", "binary_data_size", "triton_x"])
    if rng.random() < 0.5:
        request.parameters[name].int64_param = _pick(rng, NUMBERS)
    else:
        _pick(rng, request.inputs).parameters[name].string_param = "x"


def _other_version(request: Request, rng: np.random.Generator) -> None:
    request.model_version = _pick(rng, ["0", "2", "-1", "one", "9" * 30])


MUTATIONS: list[Mutation] = [
    _other_type, _other_size, _other_size_of_an_axis, _other_rank, _other_name, _fewer_inputs, _fewer_contents, _twice,
    _other_bytes, _other_length, _other_value, _typed_contents, _other_output, _parameters, _other_version,
]  # fmt: skip


def _status(infer: Any, request: Request) -> tuple[grpc.StatusCode, str]:
    try:
        infer(request, timeout=DEADLINE_S)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def test_no_mutation_of_a_valid_request_stops_the_server(server: TritonServer) -> None:
    rng = np.random.default_rng(0)
    answers: Counter[grpc.StatusCode] = Counter()
    with grpc.insecure_channel(server.grpc_url) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        expected = {model: infer(_valid(model), timeout=DEADLINE_S) for model in ("toy_whole", "toy_uncached")}
        for number in range(NUM_MUTATIONS):
            model = ("toy_whole", "toy_uncached")[number % 2]
            request = _valid(model)
            chosen = [_pick(rng, MUTATIONS) for _ in range(int(rng.integers(1, MOST_AT_ONCE + 1)))]
            for mutate in chosen:
                if request.inputs:
                    mutate(request, rng)
            status, words = _status(infer, request)
            done = [mutate.__name__ for mutate in chosen]
            assert status == grpc.StatusCode.OK or (status in CLEAR_STATUS and words), (number, done, status, words)
            answers[status] += 1
            if number % 100 == 99:
                again = infer(_valid(model), timeout=DEADLINE_S)
                assert again.raw_output_contents == expected[model].raw_output_contents
    assert server.poll() is None
    assert answers[grpc.StatusCode.OK] > 20, "mutations that break nothing are part of the test"
    assert answers[grpc.StatusCode.INVALID_ARGUMENT] > 500
