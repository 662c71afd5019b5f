"""A server to measure, with a store of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.repository import models_of
from serving.server_store import default_store
from serving.summary_settings import STORE_VARIABLE
from serving.triton import TritonServer


@contextmanager
def server_with_store(repository: Path, ranker: str, config_name: str | None = None) -> Iterator[TritonServer]:
    """All models of a ranker on free ports, and a store of summaries where there can be one."""
    models = models_of(repository, ranker)
    with default_store() as store:
        variables = {STORE_VARIABLE: store.url}
        with TritonServer(repository, models, config_name=config_name, variables=variables) as server:
            yield server


def keeps_summaries(server: TritonServer) -> bool:
    """Whether there is one."""
    return bool(server.variables[STORE_VARIABLE])
