"""Environment variables by which `cleave serve` tells the backends of its server what no config may say."""

from __future__ import annotations

STORE_VARIABLE = "CLEAVE_STORE"
"""The URL of the store of summaries; without it nothing is kept."""

MAX_AGE_VARIABLE = "CLEAVE_MAX_AGE_S"
"""Overrides the config's `cleave_max_age_s`."""

LIMITS_VARIABLE = "CLEAVE_LIMITS"
"""The limits of the server: see `cleave.serving.limits`."""

ENGINE_VARIABLE = "CLEAVE_ENGINE"
"""What runs the models of the server, as metrics call it: `onnxruntime` or `tensorrt`."""

GATE_VARIABLE = "CLEAVE_GATE"
"""The folder of the server's gate: see `cleave.serving.gate`."""

CHECKED_VARIABLE = "CLEAVE_CHECKED_FILES"
"""The files that were checked before the server was started: see `cleave.serving.checked_files`."""
