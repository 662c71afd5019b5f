"""How much a server takes at a time: facts of a machine, which `cleave serve` is told and no committed config says."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from cleave.serving.errors import ServingError
from cleave.serving.variables import LIMITS_VARIABLE


@dataclass(frozen=True)
class Limits:
    """All are at least 1."""

    max_queue: int = 1024
    """Requests that wait for each model, and users who wait for the history encoder in a summary cache: some seconds of
    work, and some hundred megabytes of histories. More are refused at once."""

    max_encodings: int = 1
    """Batches that a summary cache gives to the history encoder at a time: as many as it runs at a time. What waits
    behind them can still be dropped, or joined by others. One more keeps a fast encoder busy (on a GPU), but a new user
    then waits for one more."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if type(value) is not int or value < 1:
                flag = f"--{limit.name.replace('_', '-')}"
                raise ServingError(f"{flag}: expected a whole number of at least 1, got {value!r}; correct it")

    def variables(self) -> dict[str, str]:
        """What tells the backends of a server."""
        return {LIMITS_VARIABLE: json.dumps(asdict(self))}

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> Limits:
        """Those that this server was started with. Raises: ServingError: they are none."""
        text = environment.get(LIMITS_VARIABLE, "{}")
        try:
            return Limits(**json.loads(text))
        except (TypeError, json.JSONDecodeError) as error:
            raise ServingError(
                f"${LIMITS_VARIABLE}: expected the limits that `cleave serve` writes, got {text!r} ({error}); unset it"
            ) from error
