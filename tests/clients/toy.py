"""The toy model's signature and arguments, without a server."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from cleave.builders.names import SIGNATURE_PARAMETER
from cleave.clients.signature import ModelSignature, ServedModel, signature_from_served
from tests.clients.fake_triton import DTYPES, MAX_BATCH, MODEL, SIGNATURE


def served(signature: dict[str, Any] = SIGNATURE) -> ServedModel:
    def tensors(kind: str) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        return {
            name: (
                np.dtype(DTYPES[name]),
                tuple(axis if isinstance(axis, int) else -1 for axis in tensor["axes"]) or (1,),
            )
            for name, tensor in SIGNATURE[kind].items()
        }

    return ServedModel(MAX_BATCH, tensors("inputs"), tensors("outputs"), {SIGNATURE_PARAMETER: json.dumps(signature)})


def signature() -> ModelSignature:
    return signature_from_served(MODEL, served())


def arguments(num_candidates: int, num_visits: int, seed: int = 0) -> dict[str, Any]:
    """Arguments of `rank`."""
    rng = np.random.default_rng(seed)
    return {
        "candidates": {
            "items": rng.integers(0, 100, num_candidates),
            "features": rng.normal(size=(num_candidates, 3)).astype(np.float32),
        },
        "history": {
            "visits": rng.integers(0, 100, num_visits),
            "visit_weights": rng.normal(size=num_visits).astype(np.float32),
        },
        "request": {"hour": int(rng.integers(0, 24))},
    }


def batch_of_one(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `rank` as the model's own inputs, without padding."""
    flat = {name: np.asarray(array) for role in given.values() for name, array in role.items()}
    return {name: array[np.newaxis] if array.ndim else array.reshape(1, 1) for name, array in flat.items()}
