"""Mutations of messages of gRPC: names, shapes, types, bytes, parameters and ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np

from cleave.clients.transport import OPTIONS
from cleave.perf.fuzz.originals import Original
from cleave.perf.fuzz.tried import TIMEOUT_S, Tried

METHOD = "/inference.GRPCInferenceService/ModelInfer"
DEFINED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.CANCELLED,  # the time that the request itself allows was over
    }
)
"""Statuses that blame the request."""
WORDS = (
    "",
    "user_id",
    "history_items",
    "scores",
    "é\u0000\u202e",
    "../../etc/passwd",
    "%s%n",
    "x" * 70_000,
    "-1",
    "NaN",
)
SIZES = (0, 1, -1, 2, 7, 4096, 4097, 2**31, 2**32 + 1, 2**62, -(2**63))
TYPES = ("BOOL", "UINT8", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES", "BF16", "", "int64", "FP128")
PARAMETERS = ("forget", "sequence_id", "sequence_start", "priority", "timeout", "binary_data_output", "headers", "x")
FIELDS = ("bool_contents", "int_contents", "int64_contents", "uint_contents", "fp32_contents", "fp64_contents")

Rng = np.random.Generator


def pick(rng: Rng, values: Sequence[Any]) -> Any:
    """One of several values, as it is."""
    return values[int(rng.integers(len(values)))]


def mutated_bytes(rng: Rng, content: bytes) -> bytes:
    """Bytes with some flipped, cut, put in, or all of them others."""
    array = bytearray(content)
    match int(rng.integers(5)):
        case 0:
            for place in rng.integers(0, max(1, len(array)), 4):
                array[place : place + 1] = bytes([int(rng.integers(256))])
        case 1:
            del array[int(rng.integers(len(array) + 1)) :]
        case 2:
            array += rng.bytes(int(rng.integers(1, 64)))
        case 3:
            array[:] = rng.bytes(len(array))
        case _:
            array[:4] = pick(rng, (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
    return bytes(array)


def _name(message: Any, rng: Rng) -> None:
    pick(rng, message.inputs).name = pick(rng, WORDS)


def _shape(message: Any, rng: Rng) -> None:
    shape = pick(rng, message.inputs).shape
    match int(rng.integers(3)):
        case 0 if shape:
            shape[int(rng.integers(len(shape)))] = pick(rng, SIZES)
        case 1:
            shape.append(pick(rng, SIZES))
        case _:
            del shape[-1:]


def _type(message: Any, rng: Rng) -> None:
    pick(rng, message.inputs).datatype = pick(rng, TYPES)


def _content(message: Any, rng: Rng) -> None:
    if message.raw_input_contents:
        place = int(rng.integers(len(message.raw_input_contents)))
        message.raw_input_contents[place] = mutated_bytes(rng, message.raw_input_contents[place])


def _typed_content(message: Any, rng: Rng) -> None:
    del message.raw_input_contents[:]
    for tensor in message.inputs:
        getattr(tensor.contents, pick(rng, FIELDS)).extend([1] * int(rng.integers(1, 9)))


def _fewer(message: Any, rng: Rng) -> None:
    del pick(rng, (message.inputs, message.raw_input_contents))[-1:]


def _more(message: Any, rng: Rng) -> None:
    if rng.integers(2):
        message.inputs.add().CopyFrom(pick(rng, message.inputs))
    message.raw_input_contents.append(rng.bytes(int(rng.integers(64))))


def _rows(message: Any, rng: Rng) -> None:
    """More or fewer users in all inputs alike, with or without their bytes."""
    rows, bytes_too = pick(rng, (0, 2, 3, 64)), bool(rng.integers(2))
    for place, tensor in enumerate(message.inputs):
        if tensor.shape:
            tensor.shape[0] = rows
        if bytes_too and place < len(message.raw_input_contents):
            message.raw_input_contents[place] *= rows


def _parameter(message: Any, rng: Rng) -> None:
    parameters = pick(rng, (message.parameters, pick(rng, message.inputs).parameters))
    parameter = parameters[pick(rng, PARAMETERS)]
    match int(rng.integers(5)):
        case 0:
            parameter.bool_param = True
        case 1:
            parameter.int64_param = pick(rng, SIZES)
        case 2:
            parameter.string_param = pick(rng, WORDS)
        case 3:
            parameter.double_param = pick(rng, (np.nan, np.inf, -1.0))
        case _:
            parameter.Clear()


def _id(message: Any, rng: Rng) -> None:
    message.id = pick(rng, WORDS)


def _model(message: Any, rng: Rng) -> None:
    field = pick(rng, ("model_name", "model_version"))
    setattr(message, field, pick(rng, (*WORDS, "append", "append_candidate_scorer", "99999999999999999999")))


def _output(message: Any, rng: Rng) -> None:
    output = message.outputs.add(name=pick(rng, WORDS))
    if rng.integers(2):
        output.parameters["classification"].int64_param = pick(rng, SIZES)


MUTATIONS: dict[str, Callable[[Any, Rng], None]] = {
    "name of an input": _name,
    "shape": _shape,
    "type": _type,
    "bytes of an input": _content,
    "values instead of bytes": _typed_content,
    "fewer inputs": _fewer,
    "more inputs": _more,
    "number of users": _rows,
    "parameter": _parameter,
    "id": _id,
    "model": _model,
    "output": _output,
}
WIRE = "bytes of the message"


class MessageFuzzer:
    """Sends mutated messages over one channel."""

    way = "gRPC"

    def __init__(self, url: str, originals: Sequence[Original]) -> None:
        self._originals = originals
        self._channel = grpc.insecure_channel(url, options=OPTIONS)
        self._call = self._channel.unary_unary(METHOD)  # bytes in, bytes out

    def try_one(self, rng: Rng) -> Tried:
        """Send one message with one to three mutations."""
        mutation, content = self._mutated(rng)
        try:
            self._call(content, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            code = error.code()
            return Tried(self.way, mutation, code.name, self._is_defined(mutation, code), error.details() or "")
        return Tried(self.way, mutation, "answered", True)

    def close(self) -> None:
        self._channel.close()

    def _mutated(self, rng: Rng) -> tuple[str, bytes]:
        message = pick(rng, self._originals).message()
        if rng.random() < 1 / (1 + len(MUTATIONS)):
            return WIRE, mutated_bytes(rng, message.SerializeToString())
        names = [pick(rng, tuple(MUTATIONS)) for _ in range(int(rng.integers(1, 4)))]
        for name in names:
            if message.inputs:
                MUTATIONS[name](message, rng)
        return names[0], message.SerializeToString()

    @staticmethod
    def _is_defined(mutation: str, code: grpc.StatusCode) -> bool:
        # A message that cannot be read is refused by gRPC itself, which knows no better status.
        return code in DEFINED or (mutation == WIRE and code == grpc.StatusCode.INTERNAL)
