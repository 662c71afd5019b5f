from __future__ import annotations

from pathlib import Path

import pytest

from cleave.serving.server.served_folder import built_version, link_models
from tests.serving import toy

VERSION = "144115188065886240"


def test_a_folder_of_links_has_what_is_served_and_its_version(tmp_path: Path) -> None:
    repository, served = toy.write(tmp_path / "repository"), tmp_path / "served"
    (repository / "toy_whole" / "configs").mkdir()
    link_models(served, repository, {"toy_whole": VERSION, "toy_uncached": "7"})
    assert sorted(str(file.relative_to(served)) for file in served.glob("*/*")) == [
        "toy_uncached/7",
        "toy_uncached/config.pbtxt",
        f"toy_whole/{VERSION}",
        "toy_whole/config.pbtxt",
        "toy_whole/configs",
    ]
    model = repository / "toy_whole"
    assert (served / "toy_whole" / VERSION / "model.onnx").samefile(model / "1" / "model.onnx")
    assert built_version(served / "toy_whole", VERSION) == model / "1"


def test_a_repository_that_triton_serves_itself_is_its_own_folder(tmp_path: Path) -> None:
    """Of a link that somebody made there, the folder that has the configs and the other models counts."""
    model = toy.write(tmp_path / "repository") / "toy_whole"
    assert built_version(model, "1") == model / "1"
    (model / "1").rename(tmp_path / "elsewhere")
    (model / "1").symlink_to(tmp_path / "elsewhere")
    assert built_version(model, "1") == model / "1"


def test_a_repository_may_be_named_relative_to_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.write(tmp_path / "repository")
    monkeypatch.chdir(tmp_path)
    link_models(tmp_path / "served", Path("repository"), {"toy_whole": VERSION})
    monkeypatch.chdir("/")
    assert (tmp_path / "served" / "toy_whole" / VERSION / "model.onnx").is_file()
