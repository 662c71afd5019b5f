"""Reads a model's config from its file, as Triton does before it serves the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from cleave.builders.contract.origin import remedy_for
from cleave.serving.errors import ServingError


def read_config(model_folder: Path, name: str) -> Any:
    """The `ModelConfig` in a file of a model's folder; fields of a later Triton are not read.

    Raises:
        ServingError: the file holds no config; says what builds it.
    """
    file = model_folder / name
    try:
        return text_format.Parse(file.read_text(), model_config_pb2.ModelConfig(), allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ServingError(f"{file}: expected a model's config, got: {error}; {remedy_for(model_folder)}") from error
