"""The model repository on disk: written whole or not at all, and compared without writing."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cleave import DISTRIBUTION
from cleave.builders import repository
from cleave.builders.contract.location import DEFAULT_FOLDER
from cleave.builders.contract.manifest import ManifestError, check_one_build, read_manifest, write_manifest
from cleave.builders.cut.cut import Cut, split
from cleave.builders.names import HISTORY_ENCODER
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.repository import (
    RepositoryError,
    config_differences,
    write_repository,
)
from cleave.builders.triton.graphs import artifacts_of
from cleave.builders.zoo import ZOO
from tests.builders.conftest import SMALL
from tests.builders.graphs import draw, graph, ranker
from tests.zoo_cuts import zoo_cut

COMMAND = "cleave build small"


class KilledError(BaseException):
    """Ends the build where it is; like `KeyboardInterrupt`, no `Exception`."""


@pytest.fixture(scope="module")
def other_cut() -> Cut:
    """The cut of another model under the same name: other weights, and other tensors between the parts."""
    model = graph(SMALL, zero_float=np.array(0, np.float32), w=np.ones((4, 4), np.float32))
    changed = split(model, ranker())
    return dataclasses.replace(changed, summary=changed.summary[::-1])


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def models(folder: Path, cut: Cut) -> list[Path]:
    return [folder / name for name in artifacts_of(cut)]


def test_what_is_written(small_cut: Cut, tmp_path: Path) -> None:
    fingerprint = write_repository(small_cut, tmp_path, COMMAND, weights="random (seed 0)")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(artifacts_of(small_cut))
    for name, model in artifacts_of(small_cut).items():
        files = {str(file.relative_to(tmp_path / name)) for file in (tmp_path / name).rglob("*") if file.is_file()}
        artifact = {"1/model.onnx"} if model is not None else set()
        assert files == {"config.pbtxt", "configs/tensorrt.pbtxt", "1/manifest.json"} | artifact
        manifest = read_manifest(tmp_path / name)
        assert (manifest.model, manifest.ranker, manifest.fingerprint) == (name, "small", fingerprint)
        assert manifest.build_command == COMMAND
        assert manifest.weights == "random (seed 0)"
        assert set(manifest.versions) == {DISTRIBUTION, "onnx", "onnxruntime", "torch"}
    assert len(check_one_build(models(tmp_path, small_cut))) == len(artifacts_of(small_cut))


def test_artifacts_are_the_graphs_of_the_cut(small_cut: Cut, tmp_path: Path) -> None:
    write_repository(small_cut, tmp_path, COMMAND)
    run = [
        OnnxRunner(onnx.load(tmp_path / f"small_{part}" / "1" / "model.onnx"))
        for part in ("history_encoder", "candidate_scorer", "whole")
    ]
    inputs = draw(2, 7, 5)
    scores = run[1]({**inputs, **run[0](inputs)})["scores"]
    np.testing.assert_allclose(scores, run[2](inputs)["scores"], rtol=1e-5, atol=1e-5)


def test_the_same_cut_is_the_same_build(small_cut: Cut, tmp_path: Path) -> None:
    first = write_repository(small_cut, tmp_path / "first", COMMAND)
    second = write_repository(small_cut, tmp_path / "second", COMMAND)
    assert first == second
    assert snapshot(tmp_path / "first") == snapshot(tmp_path / "second")


def test_other_weights_and_another_cut_of_the_same_weights_are_other_builds(
    small_cut: Cut, other_cut: Cut, tmp_path: Path
) -> None:
    other_part = small_cut.with_graphs({HISTORY_ENCODER: other_cut.history_encoder})
    fingerprints = {write_repository(cut, tmp_path, COMMAND) for cut in (small_cut, other_cut, other_part)}
    assert len(fingerprints) == 3


def test_a_build_replaces_the_previous_one_and_leaves_what_is_not_its(
    small_cut: Cut, other_cut: Cut, tmp_path: Path
) -> None:
    (tmp_path / "another" / "1").mkdir(parents=True)
    (tmp_path / "small_whole").mkdir()
    (tmp_path / "small_whole" / "notes.txt").write_text("mine")
    write_repository(other_cut, tmp_path, COMMAND)
    fingerprint = write_repository(small_cut, tmp_path, COMMAND)
    assert {manifest.fingerprint for manifest in check_one_build(models(tmp_path, small_cut))} == {fingerprint}
    assert (tmp_path / "small_whole" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "another" / "1").is_dir()
    assert not list(tmp_path.glob(".building*"))


Interrupt = Callable[[int], None]


@pytest.fixture(params=["before", "after"])
def interrupt_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """`interrupt_at(step)`: the next build ends before or after the step of this number, which writes or moves."""
    texts: dict[int, Any] = {}  # of each cut once, as every build of it writes the same
    make = repository._texts
    monkeypatch.setattr(
        repository, "_texts", lambda cut, *given: texts.get(id(cut)) or texts.setdefault(id(cut), make(cut, *given))
    )
    state = {"last": 0, "steps": 0}

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            state["steps"] += 1
            if state["steps"] == state["last"]:
                if request.param == "after":
                    function(*arguments, **options)
                raise KilledError
            return function(*arguments, **options)

        return step

    monkeypatch.setattr(os, "rename", counting(os.rename))
    monkeypatch.setattr(repository, "write_manifest", counting(write_manifest))
    monkeypatch.setattr(Path, "write_text", counting(Path.write_text))
    monkeypatch.setattr(Path, "write_bytes", counting(Path.write_bytes))
    return lambda step: state.update(last=step, steps=0)


def test_an_interrupted_build_leaves_the_previous_one_whole(
    small_cut: Cut, other_cut: Cut, tmp_path: Path, interrupt_at: Interrupt
) -> None:
    interrupt_at(0)
    write_repository(other_cut, tmp_path, COMMAND)
    before = snapshot(tmp_path)
    for step in range(1, 1000):
        interrupt_at(step)
        try:
            write_repository(small_cut, tmp_path, COMMAND)
        except KilledError:
            assert snapshot(tmp_path) == before, f"at step {step}"
            assert len(check_one_build(models(tmp_path, small_cut))) == len(artifacts_of(small_cut))
        else:
            break
    assert step > 3 * len(artifacts_of(small_cut))
    assert snapshot(tmp_path) != before


def test_an_interrupted_first_build_leaves_nothing(small_cut: Cut, tmp_path: Path, interrupt_at: Interrupt) -> None:
    for step in range(1, 1000):
        interrupt_at(step)
        try:
            write_repository(small_cut, tmp_path, COMMAND)
        except KilledError:
            assert list(tmp_path.iterdir()) == [], f"at step {step}"
        else:
            break
    assert step > 3 * len(artifacts_of(small_cut))


def test_a_killed_build_leaves_a_previous_one_or_is_refused_by_name(
    small_cut: Cut, other_cut: Cut, tmp_path: Path, interrupt_at: Interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed undoes nothing: neither parts nor configs of two builds may be served together."""
    monkeypatch.setattr(repository, "_move_back", lambda *moved: None)
    monkeypatch.setattr(repository, "_remove_if_empty", lambda folder: None)
    interrupt_at(0)
    write_repository(small_cut, tmp_path / "new", COMMAND)
    new = snapshot(tmp_path / "new")
    outcomes = []
    for step in range(1, 1000):
        folder = tmp_path / str(step)
        interrupt_at(0)
        write_repository(other_cut, folder, COMMAND)
        old = snapshot(folder)
        interrupt_at(step)
        try:
            write_repository(small_cut, folder, COMMAND)
        except KilledError:
            outcomes.append(outcome(models(folder, small_cut)))
            assert outcomes[-1] != "served" or snapshot(folder) in (old, new)
        else:
            break
    refusals = [result for result in outcomes if result != "served"]
    assert len(refusals) > len(artifacts_of(small_cut))
    for refusal in refusals:
        # Whoever is killed after the first folder of a first build leaves nothing that says what it was.
        command = r"(run `cleave build small|build its ranker again, by `cleave build NAME) --out "
        assert re.search(rf"no such file, so small\S* is not built here; {command}", refusal)


def outcome(folders: list[Path]) -> str:
    """What a server makes of these models."""
    try:
        check_one_build(folders)
    except ManifestError as error:
        return str(error)
    return "served"


def test_a_folder_that_cannot_be_written(small_cut: Cut, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RepositoryError, match=r"model repository '.*/file': .*; choose another with --out"):
        write_repository(small_cut, tmp_path / "file", COMMAND)


def test_differences_of_configs(small_cut: Cut, other_cut: Cut, tmp_path: Path) -> None:
    write_repository(small_cut, tmp_path, COMMAND)
    before = snapshot(tmp_path)
    assert config_differences(small_cut, tmp_path, COMMAND) == ""
    file = tmp_path / "small_whole" / "config.pbtxt"
    file.write_text(file.read_text().replace("max_batch_size: 64", "max_batch_size: 8"))
    differences = config_differences(small_cut, tmp_path, COMMAND).splitlines()
    assert differences[:2] == [f"--- {file}", "+++ small_whole/config.pbtxt of this build"]
    assert "-max_batch_size: 8" in differences
    assert "+max_batch_size: 64" in differences
    file.unlink()
    assert "+max_batch_size: 64" in config_differences(small_cut, tmp_path, COMMAND)
    assert snapshot(tmp_path) == {name: text for name, text in before.items() if name != "small_whole/config.pbtxt"}


@pytest.mark.parametrize("name", ZOO)
def test_the_committed_configs_are_those_of_this_build(name: str) -> None:
    committed = Path(__file__).parents[2] / DEFAULT_FOLDER
    assert config_differences(zoo_cut(name), committed, f"cleave build {name}") == ""
