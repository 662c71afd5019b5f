"""Cuts of the zoo as it is committed, trained weights and all, made once a session: an export takes seconds."""

from __future__ import annotations

import functools
import hashlib
import os
from importlib.metadata import version
from pathlib import Path

import onnx
import pytest
import torch
from filelock import FileLock

import cleave
from cleave.builders.cut import cut as cutting
from cleave.builders.cut.cut import Cut, cut_ranker
from cleave.builders.export.torch_export import onnx_from_ranker
from cleave.builders.load import load_ranker
from cleave.builders.spec import Ranker
from cleave.builders.zoo.movielens import NUM_ITEMS

__all__ = ["NUM_ITEMS", "randomized", "zoo_cut"]

EXPORTS = Path(__file__).parents[1] / ".cleave" / "tests" / "exports"
"""Exported graphs, by a digest of what made them: for the processes of one run, and for the next run."""


def randomized(ranker: Ranker, seed: int = 0) -> Ranker:
    """The ranker in evaluation mode, weights as far from their initial values as trained ones; wrong scores show."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in ranker.module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    ranker.module.eval()
    return ranker


@functools.cache
def zoo_cut(name: str) -> Cut:
    """The cut of a model of the zoo."""
    ranker = load_ranker(name)
    ranker.module.eval()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cutting, "onnx_from_ranker", _exported)
        return cut_ranker(ranker)


def _exported(ranker: Ranker) -> onnx.ModelProto:
    """The graph of a zoo model, from the file of an earlier export of the same weights by the same code."""
    file = EXPORTS / f"{ranker.name}-{_digest_of_builders()}.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            written = file.with_suffix(".written")
            onnx.save(onnx_from_ranker(ranker), written)
            os.replace(written, file)
            for older in file.parent.glob(f"{ranker.name}-*"):
                if older.stem != file.stem:
                    older.unlink(missing_ok=True)
    return onnx.load(file)


@functools.cache
def _digest_of_builders() -> str:
    """Of everything that an export depends on: code and weights of the builders, and the exporter's versions."""
    digest = hashlib.sha256(repr([(name, version(name)) for name in ("torch", "onnx", "onnxscript")]).encode())
    builders = Path(cleave.__file__).parent / "builders"
    for file in sorted(builders.rglob("*")):
        if file.suffix in (".py", ".safetensors", ".json"):
            digest.update(f"{file.relative_to(builders)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
