from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from numpy.typing import ArrayLike

from cleave.clients import AsyncRankerClient, ModelSignature, RankerClient, Ranking
from tests.clients.fake_triton import MODEL


class AsyncClientOnLoop:
    """An `AsyncRankerClient` called like a `RankerClient`, so that one test holds for both."""

    def __init__(self, url: str, model: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = AsyncRankerClient(url, model)

    def rank(self, candidates: Any, **arguments: Any) -> Ranking:
        return self.loop.run_until_complete(self.client.rank(candidates, **arguments))

    def infer(self, inputs: Mapping[str, ArrayLike], **arguments: Any) -> dict[str, Any]:
        return self.loop.run_until_complete(self.client.infer(inputs, **arguments))

    def warm(self, user_id: Any, history: Any, **arguments: Any) -> str:
        return self.loop.run_until_complete(self.client.warm(user_id, history, **arguments))

    def warm_all(self, histories: Any, **arguments: Any) -> dict[Any, str]:
        return self.loop.run_until_complete(self.client.warm_all(histories, **arguments))

    def forget(self, user_id: Any, **arguments: Any) -> None:
        self.loop.run_until_complete(self.client.forget(user_id, **arguments))

    def signature(self, **arguments: Any) -> ModelSignature:
        return self.loop.run_until_complete(self.client.signature(**arguments))

    def close(self) -> None:
        self.loop.run_until_complete(self.client.close())

    def __enter__(self) -> AsyncClientOnLoop:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
        self.loop.close()


AnyClient = RankerClient | AsyncClientOnLoop
Connect = Callable[..., AnyClient]


@pytest.fixture(params=[RankerClient, AsyncClientOnLoop], ids=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of one kind, closed after the test."""
    with ExitStack() as clients:
        yield lambda url, model=MODEL: clients.enter_context(request.param(url, model))
