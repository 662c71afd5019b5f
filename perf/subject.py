"""A model that is measured: its ranker, its cut, and the folder that its server loads, built if it was not."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from builders.artifacts import artifacts_of
from builders.build import Request as BuildRequest
from builders.build import build
from builders.export import fingerprint_of, highs_from_graph
from builders.manifest import read_manifest
from builders.repository import SIZED_FOLDER, build_name, repository_folder, write_repository
from builders.sources import load_ranker, parse_sizes
from builders.spec import Ranker
from builders.split import Cut, cut_ranker
from perf.arms import BASELINE, Request
from perf.traffic import Traffic
from serving.errors import ServingError
from serving.repository import models_of


@dataclass(frozen=True)
class Subject:
    """A model and its build.

    `current` says whether the build is what this source makes: another one may have an item table, a narrower summary,
    or be old.
    """

    name: str
    size: str
    cut: Cut
    highs: Mapping[str, int]
    repository: Path
    fingerprint: str
    current: bool

    @property
    def ranker_name(self) -> str:
        return self.cut.ranker.name

    def flops(self, arm: str, traffic: Traffic) -> float:
        """FLOPs of one request of the traffic, on the mean, at the sizes that requests are padded to."""
        return float(
            np.mean(
                [self._flops(arm, request, new) for request, new in zip(traffic.requests, traffic.new, strict=True)]
            )
        )

    def _flops(self, arm: str, request: Request, new: bool) -> float:
        ranker = self.cut.ranker
        sizes = ranker.sizes("opt")
        history, candidates = ranker.history_axis, ranker.candidate_axis
        if history is not None:
            events = next(np.shape(request.history[tensor.name])[0] for tensor in ranker.user if tensor.axes)
            sizes[history.name] = next(bucket for bucket in history.buckets if bucket >= events)
        sizes[candidates.name] = next(bucket for bucket in candidates.buckets if bucket >= request.num_candidates)
        flops = self.cut.arms(sizes)
        if arm == BASELINE:
            return flops.per_candidate / sizes[candidates.name] * request.num_candidates
        return float(getattr(flops, "uncached" if arm == "cached" and new else arm))


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
        cut, highs = cut_ranker(ranker)
    else:
        command = shlex.join(["cleave", "build", name, *["--size", size] * bool(size), "--out", str(folder)])
        print(f"{ranker.name}: not built yet, so: {command}", file=sys.stderr)
        cut = build(BuildRequest(name, sizes)).cut
        highs = highs_from_graph(cut.whole, cut.ranker)
        write_repository(cut, folder, command)
    fingerprint = read_manifest(folder / f"{ranker.name}_whole").fingerprint
    of_source = fingerprint_of(model for model in artifacts_of(cut).values() if model is not None)
    return Subject(name, size, cut, highs, folder, fingerprint, of_source == fingerprint)


def _is_built(folder: Path, ranker: Ranker) -> bool:
    try:
        return bool(models_of(folder, ranker.name))
    except ServingError:
        return False
