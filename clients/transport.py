"""The gRPC side: Triton's messages, its statuses as our errors, and the two ways to wait for a call."""

from __future__ import annotations

import asyncio
import math
import queue
import re
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

from cleave.builders.contract.build_version import build_of_version
from cleave.builders.names import QUEUE_FULL
from cleave.clients.deadline import Deadline
from cleave.clients.errors import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OtherBuildError,
    OverloadedError,
    RankerError,
    ServerError,
    UnavailableError,
    UntrustedError,
)
from cleave.clients.signature import ServedModel
from cleave.clients.tls import Stamp, Tls
from cleave.clients.validation import Array

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that is back is found within a second; the default is up to two minutes.
    # `min_reconnect_backoff_ms` stays as it is: it is also how long connecting may take, which a busy server needs.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

ERRORS: Mapping[grpc.StatusCode, tuple[type[RankerError], str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidRequestError, "the server refused the request; correct it"),
    grpc.StatusCode.NOT_FOUND: (
        NotFoundError,
        "the server does not have it; check the name of the model, or send the history of the user",
    ),
    grpc.StatusCode.UNAVAILABLE: (
        UnavailableError,
        "the server cannot be reached or is not ready; check that it runs at this address, with or without "
        "certificates as here, and try again",
    ),
    grpc.StatusCode.CANCELLED: (UnavailableError, "cancelled as the client was closed or the server stops; try again"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (DeadlineError, "no answer within the deadline; give it more time"),
}
OTHER_ERROR = (ServerError, "the server failed; its log says more")

PASSING = re.compile(
    r"(in ensemble '[^']*', )?(model '[^']*': )?"
    r"(Stub process '[^']*' is not healthy|Request for unknown model: '[^']*' .*is not at ready state)"
)
"""How Triton begins to say, with whatever status, what `cleave serve` mends soon: that a process of the model has died,
or that the model is loaded or unloaded, as the server starts or stops."""

OVERLOADED: tuple[type[RankerError], str] = (
    OverloadedError,
    "RESOURCE_EXHAUSTED: too many requests wait there; send fewer at a time, or try again after a while",
)

UNTRUSTED = (
    UntrustedError,
    "the connection was refused over certificates; see that both are of the right authority, not expired and for this "
    "host, and that a client names its own where the server asks for one",
)

REFUSED_HANDSHAKE = re.compile(r"CERTIFICATE|handshake failed|verification check failed", re.IGNORECASE)
"""How gRPC says that one side does not trust the other, with the status UNAVAILABLE."""

Call = tuple[str, Any]
"""Name of a method of the inference service, and its request message."""


def error_from_status(where: str, code: grpc.StatusCode, words: str) -> RankerError:
    """The error of our tree for a gRPC status, with the server's words."""
    if code == grpc.StatusCode.UNAVAILABLE and QUEUE_FULL in words:
        error, meaning = OVERLOADED
    elif code == grpc.StatusCode.UNAVAILABLE and REFUSED_HANDSHAKE.search(words):
        error, meaning = UNTRUSTED
    else:
        error, meaning = ERRORS.get(grpc.StatusCode.UNAVAILABLE if PASSING.match(words) else code, OTHER_ERROR)
    return error(f"{where}: {meaning} ({code.name}: {words})")


def infer_message(
    model: str,
    version: str,
    arrays: Mapping[str, Array],
    outputs: Iterable[str],
    flags: Iterable[str] = (),
    timeout: float | None = None,
) -> Any:
    """A request of [batch, ...] arrays; one value a user, [batch], travels as [batch, 1].

    `flags` are request parameters that are set to true; an empty `version` is the latest. `timeout`, in seconds, tells
    the server after what time nobody waits for the answer: a call's own deadline does not reach the steps of an
    ensemble.
    """
    message = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for flag in flags:
        message.parameters[flag].bool_param = True
    if timeout is not None:
        message.parameters["timeout"].int64_param = math.ceil(timeout * 1e6)
    for name, array in arrays.items():
        shape = array.shape if array.ndim > 1 else (len(array), 1)
        message.inputs.add(name=name, shape=shape, datatype=np_to_triton_dtype(array.dtype))
        content = serialize_byte_tensor(array).item() if array.dtype.hasobject else array.tobytes()
        message.raw_input_contents.append(content)
    for name in outputs:
        message.outputs.add(name=name)
    return message


def arrays_from_response(answer: Any) -> dict[str, Array]:
    """The outputs by name, read-only; those whose bytes do not match their shape are left out."""
    arrays = {}
    for output, content in zip(answer.outputs, answer.raw_output_contents, strict=False):
        values = _values_from_content(output.datatype, content)
        if values is not None and values.size == math.prod(output.shape):
            arrays[output.name] = values.reshape(tuple(output.shape))
    return arrays


def _values_from_content(datatype: str, content: bytes) -> Array | None:
    dtype = np.dtype(triton_to_np_dtype(datatype) or object)
    try:
        if datatype == "BYTES":
            return np.asarray(deserialize_bytes_tensor(content))
        return None if dtype.hasobject else np.frombuffer(content, dtype)
    except (struct.error, ValueError):
        return None


def served_from_answers(metadata: Any, config: Any) -> ServedModel:
    """What the server says of a model, from its answers to ModelMetadata and ModelConfig."""
    batched = int(config.max_batch_size > 0)

    def tensors(described: Any) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        return {
            # object stands for what is no number: BYTES, and types this version of tritonclient does not know.
            tensor.name: (np.dtype(triton_to_np_dtype(tensor.datatype) or object), tuple(tensor.shape)[batched:])
            for tensor in described
        }

    return ServedModel(
        max_batch_size=config.max_batch_size,
        inputs=tensors(metadata.inputs),
        outputs=tensors(metadata.outputs),
        parameters={key: parameter.string_value for key, parameter in config.parameters.items()},
        optional=frozenset(tensor.name for tensor in config.input if tensor.optional),
        version=latest_version(metadata),
    )


def latest_version(metadata: Any) -> str:
    """The version that a server's answer to ModelMetadata speaks of: the latest of those that it serves."""
    return str(max(metadata.versions, key=int, default=""))


def _other_build(where: str, version: str, words: str) -> OtherBuildError:
    return OtherBuildError(
        f"{where}: expected build {build_of_version(version) or version}, as the server just said, got another; "
        f"try again ({words})"
    )


class GrpcChannel(ABC):
    """Calls of one server. Coroutines throughout: a channel that blocks simply never waits for the event loop."""

    def __init__(self, url: str, tls: Tls | None = None) -> None:
        self.url = url
        self._tls = tls
        self._stamp: Stamp = ()
        self._channels: list[Any] = []
        self._newest: Any = None
        self._connecting = threading.Lock()

    def _stub(self) -> Any:
        """Calls over a channel with the certificates that the files hold now; calls under way keep theirs.

        Raises:
            InvalidRequestError: a certificate cannot be read.
        """
        stamp = () if self._tls is None else self._tls.stamp()
        with self._connecting:
            if self._newest is None or stamp != self._stamp:
                self._channels.append(self._opened(None if self._tls is None else self._tls.credentials()))
                self._newest, self._stamp = service_pb2_grpc.GRPCInferenceServiceStub(self._channels[-1]), stamp
            return self._newest

    async def describe(self, model: str, time_left: Deadline) -> ServedModel:
        """What the server says of the latest version of a model, in both of its answers. Raises: RankerError."""
        asked = service_pb2.ModelMetadataRequest(name=model)
        (metadata,) = await self._checked(model, "", [("ModelMetadata", asked)], time_left.left())
        version = latest_version(metadata)
        of_it = service_pb2.ModelConfigRequest(name=model, version=version)
        (config,) = await self._checked(model, version, [("ModelConfig", of_it)], time_left.left())
        return served_from_answers(metadata, config.config)

    async def infer(
        self,
        model: str,
        version: str,
        requests: Sequence[Mapping[str, Array]],
        outputs: Iterable[str],
        timeout: float | None,
        flags: Iterable[str] = (),
    ) -> list[dict[str, Array]]:
        """All requests at the same time; the first that fails cancels the others.

        Raises:
            OtherBuildError: the server does not have this version of the model.
            RankerError: any other failure.
        """
        names, flags = tuple(outputs), tuple(flags)
        calls = [("ModelInfer", infer_message(model, version, arrays, names, flags, timeout)) for arrays in requests]
        answers = await self._checked(model, version, calls, timeout)
        for answer in answers:
            if version and answer.model_version != version:
                raise _other_build(f"{model} at {self.url}", version, f"version {answer.model_version!r} answered")
        return [arrays_from_response(answer) for answer in answers]

    async def _checked(self, model: str, version: str, calls: Sequence[Call], timeout: float | None) -> list[Any]:
        where = f"{model} at {self.url}"
        try:
            return await self._send(calls, timeout)
        except grpc.RpcError as error:
            # Triton names the version that it does not have; that a user is not known has the same status.
            missing = error.code() == grpc.StatusCode.NOT_FOUND and not PASSING.match(error.details())
            if version and missing and f"version {version} " in error.details():
                raise _other_build(where, version, error.details()) from error
            raise error_from_status(where, error.code(), error.details()) from error

    @abstractmethod
    def _opened(self, credentials: grpc.ChannelCredentials | None) -> Any:
        """A channel; without TLS where there are no credentials."""

    @abstractmethod
    async def _send(self, calls: Sequence[Call], timeout: float | None) -> list[Any]:
        """The answers in the order of the calls; the first `grpc.RpcError` cancels the calls still running."""

    @abstractmethod
    async def close(self) -> None:
        """Cancels what is running."""


class BlockingChannel(GrpcChannel):
    """Blocks the calling thread; may be used by several threads at once."""

    def _opened(self, credentials: grpc.ChannelCredentials | None) -> Any:
        if credentials is None:
            return grpc.insecure_channel(self.url, options=OPTIONS)
        return grpc.secure_channel(self.url, credentials, options=OPTIONS)

    async def _send(self, calls: Sequence[Call], timeout: float | None) -> list[Any]:
        stub = self._stub()
        if len(calls) == 1:  # a future is watched by a thread of its own, which takes 0.4 ms
            ((method, message),) = calls
            return [getattr(stub, method)(message, timeout=timeout)]
        running = [getattr(stub, method).future(message, timeout=timeout) for method, message in calls]
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            for call in running:
                call.add_done_callback(finished.put)
            for _ in running:
                finished.get().result()
            return [call.result() for call in running]
        finally:
            for call in running:
                call.cancel()

    async def close(self) -> None:
        for channel in self._channels:
            channel.close()


class AsyncioChannel(GrpcChannel):
    """Waits on the event loop it was made in, and on no other."""

    def __init__(self, url: str, tls: Tls | None = None) -> None:
        super().__init__(url, tls)
        self._loop = asyncio.get_running_loop()

    def _opened(self, credentials: grpc.ChannelCredentials | None) -> Any:
        if credentials is None:
            return grpc.aio.insecure_channel(self.url, options=OPTIONS)
        return grpc.aio.secure_channel(self.url, credentials, options=OPTIONS)

    async def _send(self, calls: Sequence[Call], timeout: float | None) -> list[Any]:
        if asyncio.get_running_loop() is not self._loop:
            raise InvalidRequestError(
                f"{self.url}: expected the event loop of the client's first call, got another; make a client in each "
                "event loop"
            )
        stub = self._stub()
        running = [getattr(stub, method)(message, timeout=timeout) for method, message in calls]
        try:
            return await asyncio.gather(*running)
        finally:
            for call in running:
                call.cancel()

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()
