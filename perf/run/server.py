"""The server that is measured: starts one with a store, or asks a running one what it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cleave.builders.names import PLAN_PLATFORM
from cleave.perf.errors import PerfError
from cleave.serving.server.loaded_models import models_of
from cleave.serving.server.triton import TritonServer
from cleave.serving.store.embedded import default_store
from cleave.serving.variables import STORE_VARIABLE

if TYPE_CHECKING:
    from tritonclient.grpc import InferenceServerClient

TIMEOUT_S = 10.0


@contextmanager
def server_with_store(repository: Path, ranker: str, config_name: str | None = None) -> Iterator[TritonServer]:
    """A server of all models of a ranker on free ports, with a store of summaries where its package is installed."""
    models = models_of(repository, ranker)
    with default_store() as store:
        variables = {STORE_VARIABLE: store.url}
        with TritonServer(repository, models, config_name=config_name, variables=variables) as server:
            yield server


def keeps_summaries(server: TritonServer) -> bool:
    """Whether the server has a store of summaries."""
    return bool(server.variables[STORE_VARIABLE])


@contextmanager
def asking(url: str) -> Iterator[InferenceServerClient]:
    """A client of a running server, by its gRPC address.

    Raises:
        PerfError: a call of the client fails in the block.
    """
    from tritonclient.grpc import InferenceServerClient  # noqa: PLC0415 - gRPC is slow to import
    from tritonclient.utils import InferenceServerException  # noqa: PLC0415

    try:
        with InferenceServerClient(url) as client:
            yield client
    except InferenceServerException as error:
        raise PerfError(
            f"{url}: expected an answer of Triton, got: {error}; see that it runs, and what it serves"
        ) from error


def versions_of(url: str) -> dict[str, str]:
    """The version of a running server, by the name that it gives itself.

    Raises:
        PerfError: it cannot be asked.
    """
    with asking(url) as client:
        metadata = client.get_server_metadata(client_timeout=TIMEOUT_S)
    return {metadata.name: metadata.version}


def platform_of(url: str, model: str) -> str:
    """The platform by which a running server runs a model, or its backend where the config names no platform.

    Raises:
        PerfError: it cannot be asked, or does not serve the model.
    """
    with asking(url) as client:
        config = client.get_model_config(model, client_timeout=TIMEOUT_S).config
    return str(config.platform or config.backend)


def is_engine(url: str, model: str) -> bool:
    """Whether a running server has an engine of TensorRT for a model.

    Raises:
        PerfError: it cannot be asked, or does not serve the model.
    """
    return platform_of(url, model) == PLAN_PLATFORM
