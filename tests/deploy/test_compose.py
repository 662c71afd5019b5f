from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cleave.serving.server.triton import EXIT_TIMEOUT_S
from cleave.serving.store import embedded as server_store
from cleave.serving.variables import STORE_VARIABLE
from tests.deploy.files import DEPLOY, ROOT, read_yaml, stages

COMPOSE = read_yaml("compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVERS = {name: service for name, service in SERVICES.items() if "build" in service}


def _mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    return [(source, target) for source, target, *_ in (mount.split(":") for mount in service.get("volumes", ()))]


def test_there_is_a_server_for_each_target_and_a_profile_for_each_server() -> None:
    assert set(SERVERS) == {"gpu", "cpu"}
    for name, server in SERVERS.items():
        assert server["profiles"] == [name]
        assert server["build"]["target"] == name in stages()
        assert (DEPLOY / server["build"]["context"]).resolve() == ROOT


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - SERVERS.keys()))
def test_images_are_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_ports_are_those_of_this_machine_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) == len(SERVERS) * 3 + 2
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in published)


def test_what_is_mounted_is_there_or_a_volume() -> None:
    for service in SERVICES.values():
        for source, _ in _mounts(service):
            is_file = source.startswith(".")
            assert (DEPLOY / source).is_file() if is_file else source in COMPOSE["volumes"], source


def test_a_server_keeps_what_it_writes_where_the_image_has_its_folder() -> None:
    for name, server in SERVERS.items():
        (workdir,) = (rest for instruction, rest in stages()[name] if instruction == "WORKDIR")
        assert _mounts(server) == [(name, workdir)]
        assert server["read_only"]
        assert server["tmpfs"] == ["/tmp:exec"]
        assert int(server["stop_grace_period"].removesuffix("s")) > EXIT_TIMEOUT_S


def test_names_in_files_are_those_of_services() -> None:
    aliases = {alias for server in SERVERS.values() for alias in server["networks"]["default"]["aliases"]}
    assert aliases == {"server"}
    (job,) = read_yaml("prometheus.yaml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["server:8002"]}]
    (datasource,) = read_yaml("grafana/datasource.yaml")["datasources"]
    assert datasource["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES
    for server in SERVERS.values():
        assert server["environment"][STORE_VARIABLE] == "redis://store:6379/0"
        assert set(server["depends_on"]) == {"store"} < set(SERVICES)


def test_every_variable_of_the_docs_is_passed_on() -> None:
    documented = re.findall(r"^\| `(CLEAVE_\w+)` \|", (ROOT / "docs/gpu.md").read_text(), re.MULTILINE)
    assert len(documented) == 5
    for server in SERVERS.values():
        given = {name for name, value in server["environment"].items() if value.startswith(f"${{{name}:-")}
        assert given | {"CLEAVE_STORE_SIZE"} == set(documented)
    assert any(word.startswith("${CLEAVE_STORE_SIZE:-") for word in SERVICES["store"]["command"])


def test_the_store_evicts_as_the_embedded_one_does(tmp_path: Path) -> None:
    command = SERVICES["store"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == server_store.EVICTION
    assert command[command.index("--save") + 1] == ""


@pytest.mark.parametrize("page", ["docs/gpu.md", "deploy/compose.yaml"])
def test_the_commands_of_the_docs_name_what_is_there(page: str) -> None:
    from cleave.cli import parser

    text = (ROOT / page).read_text()
    assert re.findall(r"COMPOSE_FILE=(\S+)", text) == [str((DEPLOY / "compose.yaml").relative_to(ROOT))]
    assert set(re.findall(r"COMPOSE_PROFILES=(\w+)", text)) <= set(SERVERS)
    for service, command in re.findall(r"docker compose exec (\w+) cleave (.+)", text):
        assert service in SERVICES
        parser().parse_args(command.split("#")[0].split())
