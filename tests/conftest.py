"""Real Triton servers for any test: started once, on free ports, and their logs shown with what fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from cleave.serving.server.loaded_models import models_of
from cleave.serving.server.log import tail
from cleave.serving.server.triton import TritonServer
from cleave.serving.store.embedded import default_store
from cleave.serving.variables import STORE_VARIABLE
from tests.clients.fake_triton import FakeTriton

Serve = Callable[..., TritonServer]
_running: list[TritonServer] = []

SHARED = ("zoo_server", "cached_server", "toy_server")
"""Fixtures that are dear: the tests of each run in one process, where tests run in several."""

# What a pull request needs to know soon; `make test-all` looks harder.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=100, deadline=None)
settings.load_profile("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group tests for `pytest --dist loadgroup`: by the dear fixture that they share, or else by their file."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        used = getattr(item, "fixturenames", ())
        group = next((name for name in SHARED if name in used), item.nodeid.split("::")[0])
        item.add_marker(pytest.mark.xdist_group(group))


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


@pytest.fixture(scope="session")
def zoo_server(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """One server of the whole zoo, with a store where there can be one."""
    from cleave.builders.repository import write_repository
    from cleave.builders.zoo import ZOO
    from tests.zoo_cuts import zoo_cut

    folder = tmp_path_factory.mktemp("zoo")
    for name in ZOO:
        write_repository(zoo_cut(name), folder, f"cleave build {name}")
    with default_store("64mb" if sys.version_info >= (3, 11) else None) as store:
        variables = ((STORE_VARIABLE, store.url),)
        yield serve(folder, [model for name in ZOO for model in models_of(folder, name)], variables=variables)


@pytest.fixture(scope="session")
def toy_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy repository; not to be changed."""
    from tests.serving import toy

    return toy.write(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="session")
def toy_server(serve: Serve, toy_repository: Path) -> TritonServer:
    return serve(toy_repository, ["toy_uncached", "toy_whole", "lookup_whole", "types_whole"])


@pytest.fixture
def triton() -> Iterator[FakeTriton]:
    server = FakeTriton()
    server.start()
    yield server
    server.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections += [(f"log of Triton {server.grpc_url}", tail(server.log)) for server in _running]
    return report
