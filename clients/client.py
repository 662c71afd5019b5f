"""`RankerClient` and `AsyncRankerClient`: scores for candidates from a served model, whatever the model.

There is one implementation, written with `async`. The blocking client runs the same coroutines over a channel that
blocks instead of waiting, so that each is finished when it is first resumed; no event loop or thread is involved.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from cleave.builders.names import FORGET, SUMMARY_STATUS, USER_ID
from cleave.clients.deadline import Deadline
from cleave.clients.errors import InvalidRequestError, NotFoundError
from cleave.clients.learned_model import LearnedModel
from cleave.clients.padding import (
    arrays_from_answer,
    batches_from_users,
    outputs_from_answers,
    padded_batch,
    requests_from_arrays,
    slices,
    status_from_answers,
)
from cleave.clients.ranking import Ranking
from cleave.clients.signature import ModelSignature, signature_from_served
from cleave.clients.tls import Tls
from cleave.clients.validation import (
    Array,
    Inputs,
    UserId,
    array_from_user_id,
    arrays_for_infer,
    arrays_for_rank,
    arrays_for_warm,
    sizes_of,
)

if TYPE_CHECKING:
    from cleave.clients.transport import GrpcChannel

P = ParamSpec("P")
R = TypeVar("R")


class AsyncRankerClient:
    """Client of one served model, for asyncio; the methods of `RankerClient` are the same without `await`.

    Names, types, limits and padding are learned from the server by the first call and kept. Every request asks for the
    build that they are of. A server that has another one refuses it; they are then learned anew and the call is
    repeated, once. So is a call that is refused as invalid, if they have changed meanwhile. They are learned again as
    well by the call after any other error of the server except a missed deadline or something not found. So a client
    lives through a restart on a new build, and all scores of a call are of one build; the connection comes back by
    itself. Only `infer` is not repeated. A client belongs to the event loop of its first call.
    """

    def __init__(self, url: str, model: str, micro_batch: int | None = None, tls: Tls | None = None) -> None:
        """
        Args:
            url: `host:port` of the server's gRPC endpoint.
            model: name of a served model: of the ranker, which keeps summaries, `NAME_uncached` or `NAME_whole`; for
                `infer` also `NAME_history_encoder`.
            micro_batch: the most candidates of one request; by default as many as the model takes. Fewer share the
                server's cores better where the history is not encoded for each (M-FALCON, arXiv 2402.17152).
            tls: certificates, for a server with TLS; without it nothing is encrypted.

        Raises:
            InvalidRequestError: `micro_batch` is not above 0.
        """
        self.url = url
        self.model = model
        self.micro_batch = micro_batch
        self._tls = tls
        if micro_batch is not None and micro_batch < 1:
            raise InvalidRequestError(
                f"{self._where}: micro_batch: expected at least 1, got {micro_batch}; leave it out to send all at once"
            )
        self._channel: GrpcChannel | None = None
        self._learned = LearnedModel(self._where, self._described)
        self._closed = False

    async def rank(
        self,
        candidates: Inputs,
        *,
        user_id: UserId | None = None,
        history: Inputs | None = None,
        request: Inputs | None = None,
        on_missing: Callable[[UserId], Any] | None = None,
        deadline: float | None = None,
    ) -> Ranking:
        """Scores of one user's candidates.

        Each of the inputs is a mapping from tensor name to array, or the array itself where the model has one tensor
        of that kind. Shapes are the model's, without the batch axis. Arrays are padded to the sizes the server is
        fast at, and more candidates than fit one request are sent as several at the same time: neither shows.

        A user the server knows may be named by `user_id` alone: the scores are then those of the history it last saw.
        With a `history` they are those of that history, known or not.

        Args:
            candidates: the inputs with one row per candidate, any number of rows above 0.
            user_id: names the user across requests.
            history: what is known of the user across requests; may have no events, and not more than the axis holds.
            request: what belongs to this request alone.
            on_missing: gives the history of a user whom the server does not know, which is then asked again; may be a
                coroutine function for the asyncio client.
            deadline: seconds for the whole call, however many requests it takes, at most a year; what the server did
                not begin by then it drops.

        Raises:
            RankerError: see `cleave.clients.errors`; the first failure cancels the requests still running.
        """
        time_left = Deadline(self._where, deadline)
        given = {"candidates": candidates, "history": history, "request": request}
        try:
            return await self._learned.call(self._rank, time_left, given, user_id)
        except NotFoundError:
            if on_missing is None or user_id is None or history is not None:
                raise
        given["history"] = await self._fetched(on_missing(user_id))
        return await self._learned.call(self._rank, time_left, given, user_id)

    async def warm(self, user_id: UserId, history: Inputs, *, deadline: float | None = None) -> str:
        """Let the server encode a history ahead of the user's requests, which may then do without it.

        Returns:
            `hit` where the server knew it, `miss` or `stale` where it did not; `store_error` and `off` mean that
            nothing was kept. Raises: RankerError.
        """
        return await self._learned.call(self._warm, Deadline(self._where, deadline), user_id, history)

    async def warm_all(self, histories: Mapping[UserId, Inputs], *, deadline: float | None = None) -> dict[UserId, str]:
        """`warm` for many users, whose histories the server encodes together. Returns the status of each."""
        return await self._learned.call(self._warm_all, Deadline(self._where, deadline), histories)

    async def forget(self, user_id: UserId, *, deadline: float | None = None) -> None:
        """Delete what the server keeps of a user. Raises: RankerError: it may still be kept."""
        await self._learned.call(self._forget, Deadline(self._where, deadline), user_id)

    async def infer(self, inputs: Mapping[str, ArrayLike], *, deadline: float | None = None) -> dict[str, Array]:
        """One request as it is: a row per user in every tensor, [batch, ...], nothing padded, nothing split.

        Returns:
            Every output, [batch, ...], by name.

        Raises:
            OtherBuildError: the server has another build by now. Nothing is repeated, as only the caller knows whether
                the arrays were made for the build before, as `signature` described it.
            RankerError: any other failure.
        """
        return await self._learned.call_once(self._infer_batch, Deadline(self._where, deadline), inputs)

    async def signature(self, *, deadline: float | None = None) -> ModelSignature:
        """Names, types, axes and roles of the model, as its server publishes them. Raises: RankerError."""
        return await self._learned.signature(Deadline(self._where, deadline))

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
            from cleave.clients.transport import AsyncioChannel  # noqa: PLC0415 - gRPC is slow to import

            self._channel = AsyncioChannel(self.url, self._tls)
        return self._channel

    async def _fetched(self, history: Any) -> Inputs:
        """What `on_missing` gave, or what that gives once it is awaited."""
        fetched: Inputs = await history if inspect.isawaitable(history) else history
        return fetched

    async def _described(self, time_left: Deadline) -> ModelSignature:
        served = await self._connected().describe(self.model, time_left)
        return signature_from_served(self.model, served)

    async def _rank(
        self,
        signature: ModelSignature,
        time_left: Deadline,
        given: Mapping[str, Inputs | None],
        user_id: UserId | None,
    ) -> Ranking:
        arrays = arrays_for_rank(signature, given, user_id)
        parts = slices(signature, sizes_of(signature, arrays), self.micro_batch)
        requests = requests_from_arrays(signature, arrays, parts)
        status = (SUMMARY_STATUS,) if SUMMARY_STATUS in signature.outputs else ()
        answers = await self._infer(signature, requests, (*signature.candidate_outputs, *status), time_left)
        outputs = outputs_from_answers(signature, sizes_of(signature, arrays), answers, parts)
        return Ranking(outputs, status_from_answers(answers), signature.build)

    async def _warm(self, signature: ModelSignature, time_left: Deadline, user_id: UserId, history: Inputs) -> str:
        arrays = arrays_for_warm(signature, user_id, history)
        answers = await self._ask_cache(signature, [padded_batch(signature, arrays)], (SUMMARY_STATUS,), time_left)
        return status_from_answers(answers) or ""

    async def _warm_all(
        self, signature: ModelSignature, time_left: Deadline, histories: Mapping[UserId, Inputs]
    ) -> dict[UserId, str]:
        users = {user_id: arrays_for_warm(signature, user_id, history) for user_id, history in histories.items()}
        batches = batches_from_users(signature, users)
        answers = await self._ask_cache(signature, [arrays for _, arrays in batches], (SUMMARY_STATUS,), time_left)
        return {
            user_id: status.decode()
            for (user_ids, _), answer in zip(batches, answers, strict=True)
            for user_id, status in zip(user_ids, answer[SUMMARY_STATUS].reshape(-1).tolist(), strict=True)
        }

    async def _forget(self, signature: ModelSignature, time_left: Deadline, user_id: UserId) -> None:
        arrays = {USER_ID: array_from_user_id(signature, user_id)[np.newaxis]}
        await self._ask_cache(signature, [arrays], (), time_left, (FORGET,))

    async def _infer_batch(
        self, signature: ModelSignature, time_left: Deadline, inputs: Mapping[str, ArrayLike]
    ) -> dict[str, Array]:
        arrays = arrays_for_infer(signature, inputs)
        return (await self._infer(signature, [arrays], signature.outputs, time_left))[0]

    async def _ask_cache(
        self,
        signature: ModelSignature,
        requests: Sequence[Mapping[str, Array]],
        outputs: Sequence[str],
        time_left: Deadline,
        flags: Sequence[str] = (),
    ) -> list[dict[str, Array]]:
        """Requests to the model that keeps the summaries of this one."""
        cache, version = signature.summary_cache, signature.version
        assert cache is not None, "the id of the user was accepted"
        return await self._connected().infer(cache, version, requests, outputs, time_left.left(), flags)

    async def _infer(
        self,
        signature: ModelSignature,
        requests: Sequence[Mapping[str, Array]],
        outputs: Iterable[str],
        time_left: Deadline,
    ) -> list[dict[str, Array]]:
        names = tuple(outputs)
        answers = await self._connected().infer(self.model, signature.version, requests, names, time_left.left())
        return [
            arrays_from_answer(self._where, signature, request, {name: answer.get(name) for name in names})
            for request, answer in zip(requests, answers, strict=True)
        ]


class _BlockingClient(AsyncRankerClient):
    """Its coroutines finish without an event loop."""

    def __init__(self, url: str, model: str, micro_batch: int | None, tls: Tls | None) -> None:
        from cleave.clients.transport import BlockingChannel  # noqa: PLC0415

        super().__init__(url, model, micro_batch, tls)
        self._channel = BlockingChannel(url, tls)

    async def _fetched(self, history: Any) -> Inputs:
        if not inspect.isawaitable(history):
            return await super()._fetched(history)
        if inspect.iscoroutine(history):
            history.close()
        raise InvalidRequestError(
            f"{self._where}: on_missing: expected a function that returns the history, got one that returns an "
            f"awaitable ({type(history).__name__}), which no event loop runs here; use AsyncRankerClient"
        )


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

    def __init__(self, url: str, model: str, micro_batch: int | None = None, tls: Tls | None = None) -> None:
        """Arguments: those of `AsyncRankerClient`."""
        self.url = url
        self.model = model
        self._client = _BlockingClient(url, model, micro_batch, tls)

    rank = _blocking(AsyncRankerClient.rank)
    warm = _blocking(AsyncRankerClient.warm)
    warm_all = _blocking(AsyncRankerClient.warm_all)
    forget = _blocking(AsyncRankerClient.forget)
    infer = _blocking(AsyncRankerClient.infer)
    signature = _blocking(AsyncRankerClient.signature)
    close = _blocking(AsyncRankerClient.close)

    def __enter__(self) -> RankerClient:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
