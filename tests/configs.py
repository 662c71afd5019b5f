"""Reads the configs of a model repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2


def configs_of(repository: Path, file: str) -> dict[str, Any]:
    """The `ModelConfig` of every model of a repository that has this file in its folder, by the model's name."""
    return {
        folder.name: text_format.Parse((folder / file).read_text(), model_config_pb2.ModelConfig())
        for folder in sorted(repository.iterdir())
        if (folder / file).is_file()
    }
