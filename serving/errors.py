"""Errors of starting and configuring servers, worded `<where>: <what>, expected <x>, got <y>; <what to do>`."""

from __future__ import annotations

from typing import ClassVar


class ServingError(ValueError):
    """The server cannot be started as asked."""

    status: ClassVar[str] = "INTERNAL"
    """What a request that fails with it is answered: a name of Triton's `TritonError`."""


class ModelError(ServingError):
    """A model that cannot be loaded as its config says."""


class InputError(ServingError):
    """One request's tensors cannot be used; the other requests of its batch can."""

    status = "INVALID_ARG"


class StoppingError(ServingError):
    """The request came when the server was told to stop, and is not answered."""

    status = "UNAVAILABLE"


class RequestFailedError(ServingError):
    """One request failed, and its tensors are not known to be the cause."""


class OverloadError(ServingError):
    """One request was refused, as too many wait already; it may be sent again."""

    status = "UNAVAILABLE"


class RequestDroppedError(ServingError):
    """One request was not worked on, as nobody waits for its answer any more."""

    status = "CANCELLED"
