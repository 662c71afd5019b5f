from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from cleave.perf.errors import PerfError
from cleave.perf.run.server import is_engine, versions_of


class Client:
    """Says what a Triton with engines would say."""

    def __init__(self, url: str) -> None:
        pass

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def get_server_metadata(self, **options: Any) -> Any:
        return SimpleNamespace(name="triton", version="2.71.0")

    def get_model_config(self, model: str, **options: Any) -> Any:
        if model == "lost":
            raise InferenceServerException("Request for unknown model: 'lost' is not found")
        platform = "ensemble" if model == "append" else "tensorrt_plan"
        return SimpleNamespace(config=SimpleNamespace(platform=platform))


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tritonclient.grpc.InferenceServerClient", Client)


def test_a_server_says_what_it_is() -> None:
    assert versions_of("host:8001") == {"triton": "2.71.0"}
    assert is_engine("host:8001", "append_whole")
    assert not is_engine("host:8001", "append")


def test_a_model_that_is_not_served_is_an_error_of_ours() -> None:
    with pytest.raises(
        PerfError, match=r"^host:8001: expected an answer of Triton, got: .*unknown model: 'lost'.*; see th"
    ):
        is_engine("host:8001", "lost")
