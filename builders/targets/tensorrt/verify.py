"""Compares the engines of a ranker with ONNX Runtime, one by one, by polygraphy's comparator.

The summary that a scorer gets is ONNX Runtime's, so that a difference is that of the engine which is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
from polygraphy.backend.trt import EngineFromBytes, TrtRunner
from polygraphy.comparator import Comparator
from polygraphy.exception import PolygraphyException
from polygraphy.logger import G_LOGGER

from cleave.builders.contract.dtypes import TOLERANCES
from cleave.builders.contract.engine_record import Bounds, holds
from cleave.builders.contract.manifest import Manifest
from cleave.builders.errors import CheckError
from cleave.builders.export.id_ranges import with_id_ranges
from cleave.builders.names import BATCH, HISTORY_ENCODER, VERSION_FOLDER, WHOLE, model_name
from cleave.builders.onnx_graph.compare import Difference, largest_difference
from cleave.builders.onnx_graph.random_inputs import Arrays, draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes.precision import precision_of
from cleave.builders.passes.rounding import rounded
from cleave.builders.spec import Ranker
from cleave.builders.targets.target import EngineRunner
from cleave.builders.targets.tensorrt.engine import import_tensorrt

G_LOGGER.module_severity = G_LOGGER.CRITICAL
"""It prints to stdout, where results go."""


class VerifyError(CheckError):
    """What is served does not compute what was built."""


@dataclass(frozen=True, eq=False)
class EngineCase:
    """Inputs of all parts, a summary among them, as Triton hands them over, and their sizes."""

    sizes: Mapping[str, int]
    inputs: Arrays

    def __str__(self) -> str:
        return ", ".join(f"{name} {size}" for name, size in self.sizes.items())


@dataclass(frozen=True)
class Verified:
    """What was compared of a part without finding a difference that is too large."""

    part: str
    num_cases: int
    difference: float
    tolerance: float

    def __str__(self) -> str:
        return (
            f"{self.part}: {self.num_cases} cases, largest difference {self.difference:.2g} where {self.tolerance:g} "
            "is allowed"
        )


@dataclass(frozen=True)
class TestedEngine:
    """A model of the repository with its graph, and what runs its engine."""

    name: str
    model: onnx.ModelProto
    profiles: Sequence[Bounds]
    runner: EngineRunner

    @property
    def precision(self) -> str:
        """The one its graph computes in."""
        return precision_of(self.model)


def engines_of_repository(
    repository: Path, manifests: Sequence[Manifest], engine_runner: Callable[[Path], EngineRunner]
) -> list[TestedEngine]:
    """The models that have an engine.

    Args:
        manifests: of the models of one ranker.
        engine_runner: from the file of an engine to what runs it.
    """
    engines = []
    for manifest in manifests:
        if manifest.plan is not None and manifest.artifact is not None:
            folder = repository / manifest.model / VERSION_FOLDER
            runner = engine_runner(folder / manifest.plan.file)
            graph = onnx.load(folder / manifest.artifact)
            engines.append(TestedEngine(manifest.model, graph, manifest.plan.profiles, runner))
    return engines


def runner_from_file(file: Path) -> EngineRunner:
    """What runs an engine on the GPU."""
    import_tensorrt("tensorrt")  # which polygraphy would miss later, and in more words
    engine = EngineFromBytes(file.read_bytes)  # which is loaded when it is run, and goes afterwards
    return lambda profile: TrtRunner(engine, optimization_profile=profile, allocation_strategy="profile")


def onnx_runner(model: onnx.ModelProto) -> Any:
    """Polygraphy's runner of ONNX Runtime on the processor."""
    return OnnxrtRunner(SessionFromOnnx(model.SerializeToString(), providers=["cpu"]))


def cases_for(ranker: Ranker, engines: Sequence[TestedEngine], seed: int = 0) -> list[EngineCase]:
    """Random inputs at the sizes of `cases_of`, as far as the engines take so many users at once, with summaries."""
    graphs = {engine.name: engine.model for engine in engines}
    whole, encoder = graphs[model_name(ranker.name, WHOLE)], graphs[model_name(ranker.name, HISTORY_ENCODER)]
    most = min(max(profile[BATCH][1] for profile in engine.profiles) for engine in engines)
    resolved, encode = with_id_ranges(ranker, whole), OnnxRunner(rounded(encoder))
    rng = np.random.default_rng(seed)
    cases = []
    for batch, sizes in cases_of(ranker):
        users = min(batch, most)
        drawn = draw_inputs(resolved, sizes, users, rng, padded=batch > 1)
        inputs = {name: array[:, None] if array.ndim == 1 else array for name, array in drawn.items()}
        cases.append(EngineCase({BATCH: users, **sizes}, inputs | encode(inputs)))
    return cases


def cases_of(ranker: Ranker) -> list[tuple[int, dict[str, int]]]:
    """All axes at min, at opt and at max: one user without padding, and several with, where the shapes are small."""
    return [
        (1, ranker.sizes("min")),
        (3, ranker.sizes("min")),
        (1, ranker.sizes("opt")),
        (2, ranker.sizes("opt")),
        (1, ranker.sizes("max")),
    ]


def verify_engines(engines: Sequence[TestedEngine], cases: Sequence[EngineCase]) -> Iterator[Verified]:
    """Compare each engine with ONNX Runtime on its graph; yields as they are done.

    Raises:
        VerifyError: names the first output that differs, where, and by how much.
    """
    for engine in engines:
        tolerance, largest = TOLERANCES[engine.precision], 0.0
        for case, difference in _differences(engine, cases):
            if said := difference.beyond(tolerance):
                raise VerifyError(
                    f"{engine.name} ({case}): {said} for {engine.precision}; build it again, and if that "
                    "does not help report it with the model"
                )
            largest = max(largest, difference.size)
        yield Verified(engine.name, len(cases), largest, tolerance)


def _differences(engine: TestedEngine, cases: Sequence[EngineCase]) -> Iterator[tuple[EngineCase, Difference]]:
    """Of each output in each case, which runs in the first profile that holds it."""
    reference = onnx_runner(rounded(engine.model))
    profiles = {
        case: next(number for number, bounds in enumerate(engine.profiles) if holds(bounds, case.sizes))
        for case in cases
    }
    for profile in sorted(set(profiles.values())):
        inside = [case for case in cases if profiles[case] == profile]
        try:
            found = _compared(engine, [reference, engine.runner(profile)], inside)
        except PolygraphyException as error:
            where = "; ".join(map(str, inside))
            raise VerifyError(f"{engine.name} ({where}): expected it to run, got: {error}; build it again") from error
        yield from ((case, each) for case, outputs in zip(inside, found, strict=True) for each in outputs)


def _compared(engine: TestedEngine, runners: Sequence[Any], cases: Sequence[EngineCase]) -> list[list[Difference]]:
    """The outputs of two runners in each case, as polygraphy's comparator comes upon them."""
    found: list[list[Difference]] = []

    def compare(expected: Mapping[str, Any], got: Mapping[str, Any]) -> dict[str, bool]:
        pairs = {name: (np.asarray(values), np.asarray(got[name])) for name, values in expected.items()}
        found.append([largest_difference(name, *pair) for name, pair in pairs.items()])
        return dict.fromkeys(pairs, True)  # what is too far apart is for the caller to say

    names = [value.name for value in engine.model.graph.input]
    feeds = [{name: case.inputs[name] for name in names} for case in cases]
    Comparator.compare_accuracy(Comparator.run(runners, data_loader=feeds), compare_func=compare)
    return found
