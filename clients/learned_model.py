"""What a client learned of a model, and calls that notice that the server has another build of it by now.

See `cleave.builders.contract.build_version` for how a request and its answer name a build.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, TypeVar

from cleave.clients.deadline import Deadline
from cleave.clients.errors import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OtherBuildError,
    RankerError,
    UnavailableError,
)
from cleave.clients.signature import ModelSignature

P = ParamSpec("P")
R = TypeVar("R")

Call = Callable[Concatenate[ModelSignature, Deadline, P], Awaitable[R]]
"""Makes requests by a signature, all of its version, in the time that is left. Raises: RankerError."""


class LearnedModel:
    """The signature of a model, learned by the first call and kept until something says that it may be another.

    Args:
        where: the model and its server, for messages.
        describe: asks the server for the signature.
    """

    def __init__(self, where: str, describe: Callable[[Deadline], Awaitable[ModelSignature]]) -> None:
        self._where = where
        self._describe = describe
        self._signature: ModelSignature | None = None
        self._was_served = False

    async def signature(self, time_left: Deadline) -> ModelSignature:
        """What is known of the model, else what the server says. Raises: RankerError."""
        if self._signature is not None:
            return self._signature
        try:
            signature = await self._describe(time_left)
        except NotFoundError as error:
            if not self._was_served:
                raise
            raise UnavailableError(f"{error}; it was served before, so the server starts or stops") from error
        self._signature, self._was_served = signature, True
        return signature

    async def call(self, call: Call[P, R], time_left: Deadline, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of `call`, which is repeated once where the server has another build than the one known.

        Raises:
            OtherBuildError: it has yet another one by then.
            RankerError: whatever `call` raised.
        """
        try:
            return await self.call_once(call, time_left, *args, **kwargs)
        except OtherBuildError:
            return await self.call_once(call, time_left, *args, **kwargs)

    async def call_once(self, call: Call[P, R], time_left: Deadline, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of `call`; after an error that another build would explain, the model is learned anew.

        Raises:
            OtherBuildError: the server has another build than the one known.
            RankerError: whatever `call` raised.
        """
        known = self._signature
        signature = await self.signature(time_left)
        try:
            return await call(signature, time_left, *args, **kwargs)
        except (DeadlineError, NotFoundError):
            raise  # a user who is not known is no other model
        except InvalidRequestError as refusal:
            # What was learned long ago may refuse what the server would take; perhaps nothing was sent.
            if signature is known and await self._has_changed(signature, time_left):
                raise OtherBuildError(f"{self._where}: the build changed; try again ({refusal})") from refusal
            raise
        except RankerError:
            self._drop(signature)
            raise

    async def _has_changed(self, signature: ModelSignature, time_left: Deadline) -> bool:
        self._drop(signature)
        with contextlib.suppress(RankerError):  # what the caller must know is the refusal
            return await self.signature(time_left) != signature
        return False

    def _drop(self, signature: ModelSignature) -> None:
        if self._signature is signature:  # else another call has learned a new one
            self._signature = None
