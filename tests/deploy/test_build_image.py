"""How an image is built, with tools that only say how they were called."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import BUILD_IMAGE, stages

NEEDED = ("bash", "basename", "dirname", "git", "head")


class Tools:
    """A PATH with container tools that write down their arguments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in NEEDED:
            (folder / name).symlink_to(str(shutil.which(name)))

    def add(self, name: str) -> None:
        (self.folder / name).write_text('#!/bin/bash\nprintf "%s\\n" "${0##*/}" "$@"\n')
        (self.folder / name).chmod(0o755)

    def build(self, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.folder), "HOME": os.environ.get("HOME", "/")} | variables
        return subprocess.run([BUILD_IMAGE, *options], env=environment, capture_output=True, text=True, check=False)

    def said(self, *options: str, **variables: str) -> list[str]:
        done = self.build(*options, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path)


def test_without_a_tool_it_says_which_are_expected(tools: Tools) -> None:
    done = tools.build()
    assert done.returncode == 2
    assert done.stderr == ("deploy/build_image.sh: expected docker, podman or buildah, got none of them; install one\n")


@pytest.mark.parametrize("present", [("buildah",), ("podman", "buildah"), ("docker", "podman", "buildah")])
def test_the_first_tool_builds(tools: Tools, present: tuple[str, ...]) -> None:
    for name in present:
        tools.add(name)
    tool, command, *options = tools.said("--network", "host")
    assert (tool, command) == (present[0], "build")
    assert options[-3:] == ["--network", "host", "."]
    # Docker has the one format, and no option for the time of files.
    assert ("--timestamp" in options) == ("--format" in options) == (tool != "docker")


def test_another_tool_may_have_options(tools: Tools) -> None:
    for name in ("docker", "podman"):
        tools.add(name)
    said = tools.said(CONTAINER_TOOL="podman --storage-driver vfs")
    assert said[:4] == ["podman", "--storage-driver", "vfs", "build"]


def test_the_target_names_the_image(tools: Tools) -> None:
    tools.add("docker")
    for variables, target in (({}, "cpu"), ({"TARGET": "gpu"}, "gpu")):
        said = tools.said(**variables)
        assert target in stages()
        assert said[2:6] == ["--target", target, "--tag", f"cleave:{target}"]


def test_an_index_is_an_argument_of_the_build_if_it_is_given_even_as_empty(tools: Tools) -> None:
    tools.add("docker")
    assert "--build-arg" not in tools.said()
    said = tools.said(PIP_INDEX_URL="https://index.example/simple", PIP_EXTRA_INDEX_URL="")
    given = [value for option, value in itertools.pairwise(said) if option == "--build-arg"]
    assert given == ["PIP_INDEX_URL=https://index.example/simple", "PIP_EXTRA_INDEX_URL="]
    for target in ("wheel", "gpu", "cpu"):
        declared = " ".join(rest for instruction, rest in stages()[target] if instruction == "ARG").split()
        assert {argument.partition("=")[0] for argument in given} <= set(declared), target
