"""What one summary cache is told: by its config, by the encoder beside it, and by the server's environment."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cleave.builders.contract.manifest import read_manifest
from cleave.builders.names import ENCODER_PARAMETER, MAX_AGE_PARAMETER
from cleave.serving.errors import ModelError
from cleave.serving.limits import Limits
from cleave.serving.model_config import Config, parameter
from cleave.serving.summary.keys import Keys
from cleave.serving.summary.summary_format import SummaryFormat
from cleave.serving.summary.user_inputs import UserInputs
from cleave.serving.variables import ENGINE_VARIABLE, MAX_AGE_VARIABLE, STORE_VARIABLE


@dataclass(frozen=True)
class CacheSettings:
    """See `cleave.serving.summary.policy` for what each means."""

    name: str
    user_inputs: UserInputs
    summary_format: SummaryFormat
    keys: Keys
    encoder: str
    """Name of the history encoder's model."""
    store_url: str | None
    max_age_s: float
    max_batch_size: int
    limits: Limits = field(default_factory=Limits)
    engine: str = ""
    """What runs the models of the server; "" where it was not started by `cleave serve`."""

    @staticmethod
    def from_config(folder: Path, config: Config, environment: Mapping[str, str] = os.environ) -> CacheSettings:
        """
        Args:
            folder: the model's folder, `<repository>/<model>`.

        Raises:
            ManifestError: the encoder was never built.
            ModelError: a parameter is missing or wrong.
            ServingError: the limits of the server are none.
        """
        encoder = parameter(config, ENCODER_PARAMETER)
        manifest = read_manifest(folder.parent / encoder)
        max_age = environment.get(MAX_AGE_VARIABLE) or parameter(config, MAX_AGE_PARAMETER)
        return CacheSettings(
            name=config["name"],
            user_inputs=UserInputs.from_config(config),
            summary_format=SummaryFormat.from_config(config),
            keys=Keys(manifest.ranker, hashlib.sha256(manifest.fingerprint.encode()).digest()),
            encoder=encoder,
            store_url=environment.get(STORE_VARIABLE) or None,
            max_age_s=_seconds(config["name"], max_age),
            max_batch_size=config["max_batch_size"],
            limits=Limits.from_environment(environment),
            engine=environment.get(ENGINE_VARIABLE, ""),
        )


def _seconds(model: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise ModelError(f"model {model!r}: max age: expected seconds of at least 0, got {text!r}; correct it")
    return seconds
