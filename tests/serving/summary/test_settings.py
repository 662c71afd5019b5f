from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from cleave.builders.contract.manifest import ManifestError
from cleave.builders.names import ENCODER_PARAMETER, MAX_AGE_PARAMETER
from cleave.serving.errors import ModelError
from cleave.serving.summary.settings import CacheSettings
from tests.serving import cached_toy, toy

NAME = "toy_summary_cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return cached_toy.write(tmp_path, tmp_path) / NAME


def config(folder: Path) -> dict[str, Any]:
    made = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    return toy.triton_config(made)


def test_everything_is_in_the_config_beside_it_and_in_the_environment(folder: Path) -> None:
    settings = CacheSettings.from_config(folder, config(folder), {})
    assert (settings.name, settings.encoder, settings.keys.ranker) == (NAME, "toy_history_encoder", "toy")
    assert (settings.store_url, settings.max_age_s, settings.max_batch_size) == (None, 3600, toy.MAX_BATCH)
    assert list(settings.user_inputs.tensors) == ["history_items", "history_weights"]
    assert list(settings.summary_format.tensors) == ["history_sum", "history_mask"]
    told = CacheSettings.from_config(
        folder, config(folder), {"CLEAVE_STORE": "redis://host", "CLEAVE_MAX_AGE_S": "7.5"}
    )
    assert (told.store_url, told.max_age_s) == ("redis://host", 7.5)


def test_another_build_has_other_keys(folder: Path, tmp_path: Path) -> None:
    other = cached_toy.write(tmp_path / "other", tmp_path, fingerprint="2" * 64) / NAME
    keys = [CacheSettings.from_config(each, config(each), {}).keys.of_user(b"ann") for each in (folder, folder, other)]
    assert keys[0] == keys[1] != keys[2]


def test_an_encoder_that_was_never_built_is_named(folder: Path) -> None:
    shutil.rmtree(folder.parent / "toy_history_encoder" / "1")
    with pytest.raises(ManifestError, match="toy_history_encoder is not built here"):
        CacheSettings.from_config(folder, config(folder), {})


@pytest.mark.parametrize("parameter", [ENCODER_PARAMETER, MAX_AGE_PARAMETER])
def test_a_missing_parameter_is_named(folder: Path, parameter: str) -> None:
    given = config(folder)
    del given["parameters"][parameter]
    with pytest.raises(ModelError, match=f"model '{NAME}': expected parameter '{parameter}', got none; build it again"):
        CacheSettings.from_config(folder, given, {})


@pytest.mark.parametrize("age", ["-1", "nan", "a day"])
def test_a_wrong_age_is_refused(folder: Path, age: str) -> None:
    with pytest.raises(ModelError, match=f"max age: expected seconds of at least 0, got '{age}'; correct it"):
        CacheSettings.from_config(folder, config(folder), {"CLEAVE_MAX_AGE_S": age})
