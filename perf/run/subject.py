"""A model that is measured: its ranker, its cut, and the folder that its server loads, built if it was not."""

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
from cleave.builders.pipeline import Request as BuildRequest
from cleave.builders.pipeline import build
from cleave.builders.predict.arms import ARMS
from cleave.builders.predict.processors import Processor
from cleave.builders.predict.roofline import predict_arm
from cleave.builders.repository import write_repository
from cleave.builders.spec import Axis, Ranker
from cleave.builders.triton.graphs import artifacts_of
from cleave.perf.arms import RankRequest
from cleave.perf.workload.traffic import Traffic
from cleave.serving.errors import ServingError
from cleave.serving.server.loaded_models import models_of


class Expected(NamedTuple):
    """What one request of an arm takes by the graph: its FLOPs, its latency by the roofline of the machine, and the
    least that the machine's peaks allow, in milliseconds."""

    flops: float
    roofline_ms: float
    limit_ms: float


@dataclass(frozen=True)
class Subject:
    """A model and its build.

    `current` says whether the build is what this source makes: another one may have an item table, a narrower summary,
    or be old.
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
        """Of one request of the traffic, on the mean, at the sizes that requests are padded to."""
        counted = Counter(
            (
                tuple(self._padded_sizes(request).items()),
                request.num_candidates,
                (ARMS[arm].on_miss or arm) if new else arm,
            )
            for request, new in zip(traffic.requests, traffic.new, strict=True)
        )
        total = np.zeros(len(Expected._fields))
        for (sizes, candidates, served), count in counted.items():
            total += count * np.array(self._expected(served, dict(sizes), candidates, processor))
        return Expected(*(float(value) for value in total / len(traffic.requests)))

    def _expected(self, arm: str, sizes: dict[str, int], candidates: int, processor: Processor) -> Expected:
        axis = self.cut.ranker.candidate_axis.name
        if ARMS[arm].row_per_candidate:  # which pads no candidates
            sizes = {**sizes, axis: candidates}
        prediction = predict_arm(ARMS[arm], self.cut, processor, sizes, processor.precision)
        return Expected(prediction.flops, prediction.latency_ms, prediction.time.limit_ms)

    def _padded_sizes(self, request: RankRequest) -> dict[str, int]:
        ranker = self.cut.ranker
        sizes = ranker.sizes("opt")
        history, candidates = ranker.history_axis, ranker.candidate_axis
        if history is not None:
            events = next(np.shape(request.history[tensor.name])[0] for tensor in ranker.user if tensor.axes)
            sizes[history.name] = _bucket(history, events)
        sizes[candidates.name] = _bucket(candidates, request.num_candidates)
        return sizes


def _bucket(axis: Axis, size: int) -> int:
    return next(bucket for bucket in axis.buckets if bucket >= size)


def subject_of(name: str, size: str, repository: Path | None = None) -> Subject:
    """The model called `name`.

    Args:
        size: as given to `cleave build --size`.
        repository: where its build is, or goes if there is none. By default where `cleave build` writes; a build that
            is made here goes to a folder that git ignores, as nobody asked for it.

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
        print(f"{ranker.name}: not built yet, so: {command}", file=sys.stderr)
        cut = build(BuildRequest(name, sizes)).cut
        write_repository(cut, folder, command)
    fingerprint = read_manifest(folder / model_name(ranker.name, WHOLE)).fingerprint
    of_source = fingerprint_of(model for model in artifacts_of(cut).values() if model is not None)
    return Subject(name, size, cut, folder, fingerprint, of_source == fingerprint)


def _is_built(folder: Path, ranker: Ranker) -> bool:
    try:
        return bool(models_of(folder, ranker.name))
    except (ManifestError, ServingError):
        return False
