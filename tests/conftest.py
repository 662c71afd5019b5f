"""Real Triton servers for any test: started once, on free ports, and their logs shown with what fails."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.server_log import tail
from serving.triton import TritonServer

Serve = Callable[..., TritonServer]
_running: list[TritonServer] = []


@pytest.fixture(scope="session")
def serve() -> Iterator[Serve]:
    """`serve(repository, models, **options)`: a server that runs until the session ends, one for equal arguments."""
    servers: dict[Any, TritonServer] = {}

    def start(repository: Path, models: list[str], **options: Any) -> TritonServer:
        key = (repository, *models, *sorted(options.items()))
        if key not in servers:
            server = TritonServer(repository, models, **options)
            server.start()
            servers[key] = server
            _running.append(server)
        return servers[key]

    yield start
    for server in servers.values():
        _running.remove(server)
        server.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += [(f"log of Triton {server.grpc_url}", tail(server.log)) for server in _running]
    return report
