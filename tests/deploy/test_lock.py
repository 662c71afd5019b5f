"""The lock files pin what `pyproject.toml` asks for, whole and by content."""

from __future__ import annotations

import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.files import DEPLOY, ROOT, arguments

if sys.version_info >= (3, 11):
    import tomllib
else:
    pytest.skip("tomllib came with Python 3.11", allow_module_level=True)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ASKED = {
    "cpu.txt": [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["commands"]],
    "build.txt": PROJECT["build-system"]["requires"],
}
every_lock = pytest.mark.parametrize("lock", ASKED)


def _entries(lock: str) -> list[str]:
    """The lines of a lock, those that go on joined."""
    text = (DEPLOY / "lock" / lock).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _pinned(lock: str) -> dict[str, str]:
    return dict(entry.split()[0].split("==") for entry in _entries(lock))


@every_lock
def test_every_entry_is_one_version_known_by_content(lock: str) -> None:
    for entry in _entries(lock):
        assert re.fullmatch(r"[a-z0-9-]+==\S+( +--hash=sha256:[0-9a-f]{64})+", entry.strip()), entry


@every_lock
def test_what_the_project_asks_for_is_pinned(lock: str) -> None:
    pinned = _pinned(lock)
    environment = {"python_version": "3.11", "python_full_version": "3.11.14"}
    assert environment["python_full_version"] in arguments()["PYTHON_TAG"]
    for requirement in map(Requirement, ASKED[lock]):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_torch_is_built_for_processors() -> None:
    pinned = _pinned("cpu.txt")
    assert pinned["torch"].endswith("+cpu")
    assert not any(name.startswith("nvidia-c") for name in pinned)
