"""What an installation brings: one import name, every file that is read, and a client that needs little."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from tests.clients.fake_triton import FakeTriton, toy
from tests.clients.toy import arguments, batch_of_one

ROOT = Path(__file__).parents[1]
PACKAGES = ("builders", "clients", "perf", "serving")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "cleave", *PACKAGES)

RANK = """
import sys
sys.path.append({folder!r})
import numpy as np
from cleave.clients import RankerClient
with RankerClient({url!r}, {model!r}) as client:
    print(client.rank(**np.load({given!r}, allow_pickle=True).item()).scores.tolist())
"""

COMMAND = """
import sys
sys.path.append({folder!r})
from cleave.cli import main
sys.exit(main({words!r}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network from a copy, as a build leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, target = ROOT / name, folder / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(folder / "source")], check=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the packages that it requires without any extra, and theirs."""
    folder = tmp_path_factory.mktemp("bare")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    for needed in _with_their_needs(_wheel_in(folder)):
        files = [file for file in needed.files or () if ".." not in file.parts]
        for top in {file.parts[0] for file in files} - {"__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(needed.locate_file(top))))
    return folder


def _wheel_in(folder: Path) -> Distribution:
    return Distribution.at(next(folder.glob("cleave_ranking-*.dist-info")))


def _requirements(of: Distribution, extras: set[str]) -> list[Requirement]:
    """What the distribution requires here, with these extras of its."""
    texts = [Requirement(text) for text in of.requires or ()]
    return [
        each
        for each in texts
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras | {""})
    ]


def _with_their_needs(wheel: Distribution) -> Iterator[Distribution]:
    """The installed distributions that one without extras needs, and all that these need."""
    waiting, seen = _requirements(wheel, set()), set()
    while waiting:
        needed = waiting.pop()
        if (needed.name, *needed.extras) not in seen:
            seen.add((needed.name, *needed.extras))
            found = distribution(needed.name)
            waiting += _requirements(found, needed.extras)
            yield found


def _run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In a Python that has the standard library and what the script adds to it, in an empty folder."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def test_one_import_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cleave"}


def test_every_file_of_the_packages_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix("cleave/") for name in archive.namelist()}
    files = [file.relative_to(ROOT) for package in PACKAGES for file in (ROOT / package).rglob("*.*")]
    missing = {str(file) for file in files if "__pycache__" not in file.parts and file.suffix != ".md"} - packed
    assert not missing


def test_a_client_needs_numpy_and_tritonclient(bare: Path, triton: FakeTriton, tmp_path: Path) -> None:
    assert {needed.name for needed in _requirements(_wheel_in(bare), set())} == {"numpy", "tritonclient"}
    given = arguments(5, 17)
    file = tmp_path / "given.npy"
    np.save(file, np.array(given, dtype=object))
    done = _run(RANK.format(folder=str(bare), url=triton.url, model=triton.model, given=str(file)), tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), toy(batch_of_one(given))["scores"][0], rtol=1e-5)


def test_commands_name_the_extra_that_they_need(bare: Path, tmp_path: Path) -> None:
    assert _run(COMMAND.format(folder=str(bare), words=["--help"]), tmp_path).returncode == 0
    done = _run(COMMAND.format(folder=str(bare), words=["inspect", "append"]), tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        r"cleave inspect: Python package '\w+' is not installed; install cleave-ranking with its extra `commands`, as "
        r"in cleave-ranking\[commands\]\n",
        done.stderr,
    )
