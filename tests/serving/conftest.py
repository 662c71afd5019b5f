from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from serving.triton import TritonServer
from tests.conftest import Serve
from tests.serving import toy


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy repository; not to be changed."""
    return toy.write(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="session")
def server(serve: Serve, repository: Path) -> TritonServer:
    return serve(repository, ["toy_uncached", "toy_whole", "lookup_whole", "types_whole"])


@pytest.fixture
def client(server: TritonServer) -> Iterator[grpcclient.InferenceServerClient]:
    client = grpcclient.InferenceServerClient(server.grpc_url)
    yield client
    client.close()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
