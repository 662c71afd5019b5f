from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cleave.serving.limits import Limits
from cleave.serving.server.config_file import read_config
from cleave.serving.server.served_folder import built_version, link_models
from tests.serving import toy

VERSION = "144115188065886240"


def test_a_folder_of_links_has_what_is_served_and_its_version(tmp_path: Path) -> None:
    repository, served = toy.write(tmp_path / "repository"), tmp_path / "served"
    (repository / "toy_whole" / "configs").mkdir()
    shutil.copy(repository / "toy_whole" / "config.pbtxt", repository / "toy_whole" / "configs" / "other.pbtxt")
    link_models(served, repository, {"toy_whole": VERSION, "toy_uncached": "7"}, Limits())
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


def test_a_served_config_says_what_the_built_one_does_and_the_limits(tmp_path: Path) -> None:
    repository, served = toy.write(tmp_path / "repository"), tmp_path / "served"
    (repository / "toy_whole" / "configs").mkdir()
    shutil.copy(repository / "toy_whole" / "config.pbtxt", repository / "toy_whole" / "configs" / "other.pbtxt")
    link_models(served, repository, {"toy_whole": VERSION, "toy_uncached": "7"}, Limits(max_queue=5))
    for name in ("config.pbtxt", "configs/other.pbtxt"):
        built, config = read_config(repository / "toy_whole", name), read_config(served / "toy_whole", name)
        policy = config.dynamic_batching.default_queue_policy
        assert (policy.max_queue_size, policy.allow_timeout_override) == (5, True)
        config.dynamic_batching.ClearField("default_queue_policy")
        assert config == built
    assert read_config(served / "toy_uncached", "config.pbtxt") == read_config(
        repository / "toy_uncached", "config.pbtxt"
    ), "an ensemble has no queue"


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
    link_models(tmp_path / "served", Path("repository"), {"toy_whole": VERSION}, Limits())
    monkeypatch.chdir("/")
    assert (tmp_path / "served" / "toy_whole" / VERSION / "model.onnx").is_file()
