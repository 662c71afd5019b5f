from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from cleave.builders.contract import manifest
from cleave.builders.contract.manifest import ManifestError
from cleave.builders.files import sha256_of
from cleave.serving.errors import ServingError
from cleave.serving.server.loaded_models import check_models, models_of
from tests.serving import toy

TOY = ["toy_candidate_scorer", "toy_history_encoder", "toy_uncached", "toy_whole"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A toy repository that a test may change."""
    return toy.write(tmp_path / "models")


def test_a_ranker_has_all_models_whose_manifest_says_so(own: Path) -> None:
    assert models_of(own, "toy") == TOY
    assert models_of(own, "lookup") == ["lookup_whole"]


def test_a_model_of_any_name_comes_along(own: Path) -> None:
    file = own / "types_whole" / "1" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"ranker": "toy"}))
    assert models_of(own, "toy") == sorted([*TOY, "types_whole"])


def test_an_unknown_ranker_is_told_what_there_is(own: Path) -> None:
    held, command = f"not in {own}, which holds lookup, toy, types", f"`cleave build other --out {own}`"
    with pytest.raises(
        ServingError,
        match=f"ranker 'other': {held}; build it by {command}, with file.py:attribute in place of other if it is not ",
    ):
        models_of(own, "other")


def test_a_missing_repository_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    message = (
        f"model repository '{folder}': no such folder; build it by `cleave build toy --size layers=2 --out {folder}`"
    )
    with pytest.raises(ServingError, match=message):
        models_of(folder, "toy", size="layers=2")


def test_an_empty_repository_says_so(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="which holds nothing that was built"):
        models_of(tmp_path, "toy")


@pytest.mark.parametrize("model", TOY)
def test_a_model_that_was_never_built_is_named_with_the_command(model: str, own: Path) -> None:
    shutil.rmtree(own / model / "1")
    with pytest.raises(
        ManifestError,
        match=re.escape(f"{own}/{model}/1/manifest.json: no such file, so {model} is not built here; ")
        + f"run `cleave build toy --out {own}`",
    ):
        models_of(own, "toy")


def test_another_ranker_that_was_never_built_is_no_hindrance(own: Path) -> None:
    toy.write_model(own, "toy_second_whole", toy.config("toy_whole"), None)
    shutil.rmtree(own / "toy_second_whole" / "1")
    assert models_of(own, "toy") == TOY


def test_models_of_one_build_are_fit_to_be_served(own: Path) -> None:
    check_models(own, TOY)


def test_a_model_that_is_not_there_is_named(own: Path) -> None:
    with pytest.raises(
        ServingError, match=f"model 'toy': not in {own}, which holds lookup_whole, toy_candidate_scorer"
    ):
        check_models(own, ["toy"])


def test_parts_of_another_build_are_refused_even_where_only_an_ensemble_is_asked_for(own: Path) -> None:
    toy.write(own, ["toy_candidate_scorer"], fingerprint="a" * 64)
    with pytest.raises(ManifestError, match="expected fingerprint aaaaaaaaaaaa as toy_candidate_scorer has, got ffff"):
        check_models(own, ["toy_uncached"])


def test_an_altered_part_is_refused_even_where_only_an_ensemble_is_asked_for(own: Path) -> None:
    with (own / "toy_candidate_scorer" / "1" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(
        ManifestError, match=rf"toy_candidate_scorer/1/model.onnx: .*; run `cleave build toy --out {own}`"
    ):
        check_models(own, ["toy_uncached"])


def test_the_state_of_another_ranker_is_no_hindrance(own: Path) -> None:
    (own / "lookup_whole" / "1" / "model.onnx").unlink()
    check_models(own, TOY)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"ranker": 3}', '{"model": "toy_whole", "ranker": "toy"}'])
def test_a_broken_manifest_is_said_to_be_broken_with_the_command(text: str, own: Path) -> None:
    (own / "toy_whole" / "1" / "manifest.json").write_text(text)
    message = rf"toy_whole/1/manifest.json: not a manifest \(.*\); run `cleave build toy --out {own}`"
    for look in (lambda: models_of(own, "toy"), lambda: check_models(own, ["toy_whole"])):
        with pytest.raises(ManifestError, match=message):
            look()


def test_every_artifact_is_read_once(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(file: Path) -> str:
        read.append(file)
        return sha256_of(file)

    monkeypatch.setattr(manifest, "sha256_of", counted)
    check_models(own, models_of(own, "toy"))
    assert sorted(read) == [own / model / "1" / "model.onnx" for model in TOY if model != "toy_uncached"]
