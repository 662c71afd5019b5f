"""Reads a model's config as Triton gives it to a backend: `config.pbtxt` as JSON with every default spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from cleave.builders.contract.records import RecordError
from cleave.builders.contract.signature import Signature
from cleave.builders.names import SIGNATURE_PARAMETER
from cleave.serving.errors import ModelError

Config = Mapping[str, Any]


def named(config: Config) -> str:
    """The model as errors say it."""
    return f"model {config['name']!r}"


def optional_parameter(config: Config, name: str) -> str | None:
    """The text of a parameter; None where the config does not have it."""
    parameter = config.get("parameters", {}).get(name)
    return None if parameter is None else str(parameter["string_value"])


def parameter(config: Config, name: str) -> str:
    """The text of a parameter.

    Raises:
        ModelError: the config does not have it.
    """
    text = optional_parameter(config, name)
    if text is None:
        raise ModelError(f"{named(config)}: expected parameter {name!r}, got none; build it again")
    return text


def dtype_of(entry: Mapping[str, Any]) -> np.dtype[Any]:
    """The type of an input or output of a config."""
    return np.dtype(triton_to_np_dtype(entry["data_type"].removeprefix("TYPE_")))


def signature_from_config(config: Config) -> Signature:
    """What the model publishes of axes, roles and padding; an empty signature where it publishes none.

    Raises:
        ModelError: what it publishes is no signature.
    """
    text = optional_parameter(config, SIGNATURE_PARAMETER)
    if text is None:
        return Signature({}, {}, {})
    try:
        return Signature.from_json(text)
    except RecordError as error:
        raise ModelError(f"{named(config)}: parameter {SIGNATURE_PARAMETER!r}: {error}; build it again") from error
