"""`RankerClient` and `AsyncRankerClient`: scores for candidates from a served model, whatever the model.

There is one implementation, written with `async`. The blocking client runs the same coroutines over a channel that
blocks instead of waiting, so that each is finished when it is first resumed; no event loop or thread is involved.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clients.errors import DeadlineError, InvalidRequestError, RankerError
from clients.padding import arrays_from_answer, outputs_from_answers, requests_from_arrays
from clients.signature import Signature, signature_from_served
from clients.validation import Array, Inputs, arrays_for_infer, arrays_for_rank, sizes_of

if TYPE_CHECKING:
    from clients.transport import GrpcChannel

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Ranking:
    """The answer to `rank`: every output of the model, [num_candidates, ...], for the candidates in the order given."""

    outputs: Mapping[str, Array]

    @property
    def scores(self) -> Array:
        """The first output of the model."""
        return next(iter(self.outputs.values()))

    def order(self) -> NDArray[np.intp]:
        """Places of the candidates by falling score, equal scores in the order given."""
        return np.argsort(-self.scores, kind="stable")


class Deadline:
    """Seconds left of the time a caller gave to a whole call."""

    def __init__(self, where: str, seconds: float | None) -> None:
        if seconds is not None and not 0 < seconds < math.inf:
            raise InvalidRequestError(f"{where}: deadline: expected seconds above 0, got {seconds!r}; correct it")
        self._where = where
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Raises: DeadlineError when nothing is left."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineError(f"{self._where}: no answer within {self._seconds} s; give it more time")
        return left


class AsyncRankerClient:
    """Client of one served model, for asyncio; the methods of `RankerClient` are the same without `await`.

    Names, types and limits are learned from the server by the first call and kept. They are learned again by the call
    after any error of the server except a missed deadline, so a client lives through a restart on a new build; the
    connection comes back by itself. A client belongs to the event loop of its first call.
    """

    def __init__(self, url: str, model: str) -> None:
        """
        Args:
            url: `host:port` of the server's gRPC endpoint.
            model: name of a served model, `NAME_uncached` or `NAME_whole`; for `infer` any model that cleave built.
        """
        self.url = url
        self.model = model
        self._channel: GrpcChannel | None = None
        self._signature: Signature | None = None
        self._closed = False

    async def rank(
        self,
        candidates: Inputs,
        *,
        history: Inputs | None = None,
        request: Inputs | None = None,
        deadline: float | None = None,
    ) -> Ranking:
        """Scores of one user's candidates.

        Each of the inputs is a mapping from tensor name to array, or the array itself where the model has one tensor
        of that kind. Shapes are the model's, without the batch axis. Arrays are padded to the sizes the server is
        fast at, and more candidates than fit one request are sent as several at the same time: neither shows.

        Args:
            candidates: the inputs with one row per candidate, any number of rows above 0.
            history: what is known of the user across requests; may have no events, and not more than the axis holds.
            request: what belongs to this request alone.
            deadline: seconds for the whole call, however many requests it takes.

        Raises:
            RankerError: see `clients.errors`; the first failure cancels the requests still running.
        """
        time_left = Deadline(self._where, deadline)
        signature = await self._learned(time_left)
        arrays = arrays_for_rank(signature, {"candidates": candidates, "history": history, "request": request})
        requests = requests_from_arrays(signature, arrays)
        answers = await self._infer(signature, requests, signature.candidate_outputs, time_left)
        return Ranking(outputs_from_answers(signature, sizes_of(signature, arrays), answers))

    async def infer(self, inputs: Mapping[str, ArrayLike], *, deadline: float | None = None) -> dict[str, Array]:
        """One request as it is: a row per user in every tensor, [batch, ...], nothing padded, nothing split.

        Returns every output, [batch, ...], by name. Raises: RankerError.
        """
        time_left = Deadline(self._where, deadline)
        signature = await self._learned(time_left)
        arrays = arrays_for_infer(signature, inputs)
        return (await self._infer(signature, [arrays], signature.outputs, time_left))[0]

    async def signature(self, *, deadline: float | None = None) -> Signature:
        """Names, types, axes and roles of the model, as its server publishes them. Raises: RankerError."""
        return await self._learned(Deadline(self._where, deadline))

    async def close(self) -> None:
        """Ends the connection and whatever is running on it; the client cannot be used again."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> AsyncRankerClient:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    @property
    def _where(self) -> str:
        return f"{self.model} at {self.url}"

    def _connected(self) -> GrpcChannel:
        if self._closed:
            raise InvalidRequestError(f"{self._where}: the client is closed; make another one")
        if self._channel is None:
            from clients.transport import AsyncioChannel  # noqa: PLC0415 - gRPC is slow to import

            self._channel = AsyncioChannel(self.url)
        return self._channel

    async def _learned(self, time_left: Deadline) -> Signature:
        channel = self._connected()
        if self._signature is None:
            served = await channel.describe(self.model, time_left.left())
            self._signature = signature_from_served(self.model, served)
        return self._signature

    async def _infer(
        self,
        signature: Signature,
        requests: Sequence[Mapping[str, Array]],
        outputs: Iterable[str],
        time_left: Deadline,
    ) -> list[dict[str, Array]]:
        names = tuple(outputs)
        try:
            answers = await self._connected().infer(self.model, requests, names, time_left.left())
            return [
                arrays_from_answer(self._where, signature, request, {name: answer.get(name) for name in names})
                for request, answer in zip(requests, answers, strict=True)
            ]
        except DeadlineError:
            raise
        except RankerError:
            self._signature = None
            raise


class _BlockingClient(AsyncRankerClient):
    """Its coroutines finish without an event loop."""

    def __init__(self, url: str, model: str) -> None:
        from clients.transport import BlockingChannel  # noqa: PLC0415

        super().__init__(url, model)
        self._channel = BlockingChannel(url)


def _finished(coroutine: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine over a channel that blocks."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: R = stop.value
        return result
    coroutine.close()
    raise AssertionError(f"{coroutine} waits for an event loop, which a blocking channel never does")


def _blocking(
    method: Callable[Concatenate[AsyncRankerClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[RankerClient, P], R]:
    """The method of `RankerClient` that is `method` run to its end."""

    @functools.wraps(method)
    def blocking(self: RankerClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return _finished(method(self._client, *args, **kwargs))

    return blocking


class RankerClient:
    """Client of one served model whose calls block; see `AsyncRankerClient` for what each does.

    Threads may share a client, and their calls run at the same time. gRPC does not survive a fork: make the client in
    the child process. In a coroutine use `AsyncRankerClient`, as this one would block the event loop.
    """

    def __init__(self, url: str, model: str) -> None:
        """Arguments: those of `AsyncRankerClient`."""
        self.url = url
        self.model = model
        self._client = _BlockingClient(url, model)

    rank = _blocking(AsyncRankerClient.rank)
    infer = _blocking(AsyncRankerClient.infer)
    signature = _blocking(AsyncRankerClient.signature)
    close = _blocking(AsyncRankerClient.close)

    def __enter__(self) -> RankerClient:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
