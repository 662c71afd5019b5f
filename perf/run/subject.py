"""A model that is measured: its cut and its build, which is made if there is none."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cleave.builders.contract.location import SIZED_FOLDER, build_name, parse_sizes, repository_folder
from cleave.builders.contract.manifest import ManifestError, fingerprint_of, read_manifest
from cleave.builders.cut.cut import Cut, cut_ranker
from cleave.builders.load import load_ranker
from cleave.builders.names import WHOLE, model_name
from cleave.builders.pipeline import BuildOptions, build
from cleave.builders.predict.arms import ARMS, Arm
from cleave.builders.predict.processors import Processor
from cleave.builders.predict.roofline import predict_arm
from cleave.builders.repository import write_repository
from cleave.builders.spec import Ranker
from cleave.builders.triton.graphs import artifacts_of
from cleave.perf.arms import sizes_as_sent
from cleave.perf.workload.traffic import Traffic
from cleave.serving.errors import ServingError
from cleave.serving.server.loaded_models import models_of


class Expected(NamedTuple):
    """What the graph predicts for one request of an arm."""

    flops: float
    roofline_ms: float
    """The latency by the roofline of the processor."""
    limit_ms: float
    """The least time that the processor's peaks allow."""


@dataclass(frozen=True)
class Subject:
    """A model and its build.

    Args:
        name: the model as `cleave build` takes it.
        size: its sizes as `cleave build --size` takes them.
        cut: the cut of the model.
        repository: the folder of the build.
        fingerprint: the fingerprint of the build.
        current: whether the build is what this source makes: it may be old, or have an item table or a narrower
            summary.
    """

    name: str
    size: str
    cut: Cut
    repository: Path
    fingerprint: str
    current: bool

    @property
    def ranker_name(self) -> str:
        return self.cut.ranker.name

    def expected(self, arm: str, traffic: Traffic, processor: Processor) -> Expected:
        """The mean over the requests of a traffic, at the sizes to which they are padded."""
        ranker = self.cut.ranker
        counted: Counter[tuple[Arm, tuple[tuple[str, int], ...]]] = Counter()
        for request, new in zip(traffic.requests, traffic.new, strict=True):
            served = ARMS[(ARMS[arm].on_miss or arm) if new else arm]
            counted[served, tuple(sizes_as_sent(ranker, served, request).items())] += 1
        total = np.zeros(len(Expected._fields))
        for (served, sizes), count in counted.items():
            prediction = predict_arm(served, self.cut, processor, dict(sizes), processor.precision)
            total += count * np.array([prediction.flops, prediction.latency_ms, prediction.time.limit_ms])
        return Expected(*(float(value) for value in total / len(traffic.requests)))


def subject_of(name: str, size: str, repository: Path | None = None) -> Subject:
    """The model called `name`.

    Args:
        size: its sizes as `cleave build --size` takes them.
        repository: the folder of its build. By default the one that `cleave build` writes; if there is none, a build
            is made in a folder that git ignores.

    Raises:
        BuilderError: it cannot be built.
    """
    sizes = parse_sizes(size)
    ranker = load_ranker(name, sizes)
    folders = [repository] if repository else [repository_folder(name, sizes), SIZED_FOLDER / build_name(name, sizes)]
    folder = next((folder for folder in folders if _is_built(folder, ranker)), folders[-1])
    if _is_built(folder, ranker):
        cut = cut_ranker(ranker)
    else:
        command = shlex.join(["cleave", "build", name, *["--size", size] * bool(size), "--out", str(folder)])
        print(f"{ranker.name}: not built yet; running `{command}`", file=sys.stderr)
        built = build(BuildOptions(name, sizes))
        cut = built.cut
        write_repository(cut, folder, command, weights=built.weights, proof=built.proof)
    fingerprint = read_manifest(folder / model_name(ranker.name, WHOLE)).fingerprint
    of_source = fingerprint_of(model for model in artifacts_of(cut).values() if model is not None)
    return Subject(name, size, cut, folder, fingerprint, of_source == fingerprint)


def _is_built(folder: Path, ranker: Ranker) -> bool:
    try:
        return bool(models_of(folder, ranker.name))
    except (ManifestError, ServingError):
        return False
