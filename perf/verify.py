"""`cleave verify`: engines against ONNX Runtime, and the scores of a server against torch's."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleave.builders.contract.dtypes import TOLERANCES
from cleave.builders.cut.proof.truth import torch_outputs
from cleave.builders.names import HIT, PLAN_PLATFORM, SUMMARY_STATUS
from cleave.builders.onnx_graph.compare import largest_difference
from cleave.builders.predict.arms import TRITON_ARMS, Arm
from cleave.builders.spec import Ranker
from cleave.builders.targets.target import Target
from cleave.builders.targets.tensorrt.verify import (
    EngineCase,
    Verified,
    VerifyError,
    cases_for,
    engines_of_repository,
    verify_engines,
)
from cleave.perf.arms import DEADLINE_S, ArmClient, RankRequest, request_from_arrays, rows_of
from cleave.perf.errors import PerfError
from cleave.perf.run.server import platform_of, server_with_store
from cleave.serving.server.loaded_models import check_models, models_of

VERIFY_USER = "cleave-verify"
"""Whose summaries are kept and forgotten again."""


def verify(ranker: Ranker, repository: Path, target: Target, url: str | None) -> Iterator[Verified]:
    """Verify the engines of a ranker on this machine, and what a server makes of them; yields as they are done.

    Args:
        target: one that has engines.
        url: gRPC of a server that serves this repository; by default one is started.

    Raises:
        VerifyError: names the first output that differs, where, and by how much.
        ManifestError: the engines are not fit to be served here.
        PerfError: the server runs no engines.
    """
    assert target.runner_from_file is not None, f"{target.name} has no engines"
    models = models_of(repository, ranker.name, target.config_name)
    manifests = check_models(repository, models, target.config_name).manifests
    engines = engines_of_repository(repository, manifests, target.runner_from_file)
    cases = cases_for(ranker, engines)
    yield from verify_engines(engines, cases)
    with contextlib.ExitStack() as stack:
        if url is None:
            url = stack.enter_context(server_with_store(repository, ranker.name, target.config_name)).grpc_url
        _check_served(url, [engine.name for engine in engines], target)
        yield from verify_server(url, ranker, cases, max(TOLERANCES[engine.precision] for engine in engines))


def _check_served(url: str, models: Sequence[str], target: Target) -> None:
    """Refuse a server that does not run the engines of these models.

    Raises:
        PerfError: names the model and what runs it.
    """
    for model in models:
        if (runs := platform_of(url, model)) != PLAN_PLATFORM:
            raise PerfError(
                f"--url {url}: expected {model} as an engine ({PLAN_PLATFORM}), got one of {runs}; start the server "
                f"with --config-name {target.config_name}"
            )


@dataclass(frozen=True)
class _Asked:
    """The first user of a case, and what torch scores."""

    case: EngineCase
    request: RankRequest
    scores: NDArray[Any]


def verify_server(url: str, ranker: Ranker, cases: Sequence[EngineCase], tolerance: float) -> Iterator[Verified]:
    """Compare the scores of single users with torch's, by each arm that scores a list at once; yields as they are done.

    Raises:
        VerifyError: as `verify`.
    """
    asked = [_asked(ranker, case) for case in cases]
    for arm in (arm for arm in TRITON_ARMS.values() if not arm.row_per_candidate):
        with ArmClient(url, ranker.name, arm) as client:
            largest = max(_checked(client, arm, ranker, each, tolerance) for each in asked)
        yield Verified(f"{arm.model(ranker.name)} as served ({arm.name})", len(cases), largest, tolerance)


def _asked(ranker: Ranker, case: EngineCase) -> _Asked:
    inputs = {t.name: case.inputs[t.name][:1].reshape(1, *t.shape(case.sizes)) for t in ranker.inputs}
    scores = torch_outputs(ranker, inputs)[ranker.output[0].name][0]
    request = request_from_arrays(ranker, {name: array[0] for name, array in inputs.items()})
    return _Asked(case, dataclasses.replace(request, user_id=VERIFY_USER), scores)


def _checked(client: ArmClient, arm: Arm, ranker: Ranker, asked: _Asked, tolerance: float) -> float:
    """The largest difference of two requests: the second finds the summary of the first where summaries are kept."""
    output, largest, where = ranker.output[0].name, 0.0, f"{arm.model(ranker.name)} as served ({asked.case})"
    try:
        answers = [_answer(client, asked.request) for _ in range(2)]
    finally:
        if arm.keeps_summaries:
            client.client.forget(VERIFY_USER, deadline=DEADLINE_S)
    for answer in answers:
        found = largest_difference(output, asked.scores, answer[output][0, : asked.request.num_candidates])
        if said := found.beyond(tolerance):
            raise VerifyError(f"{where}: {said}; see that the server has this build")
        largest = max(largest, found.size)
    if arm.keeps_summaries and (status := answers[-1][SUMMARY_STATUS].item().decode()) != HIT:
        raise VerifyError(
            f"{where}: the same user again: expected a {HIT}, got {status!r}; see that the server has a store of "
            "summaries, and `cleave serve --store`"
        )
    return largest


def _answer(client: ArmClient, request: RankRequest) -> dict[str, NDArray[Any]]:
    """Every output, [1, ...], of a request that is one row."""
    (row,) = rows_of(client.arm, client.signature, request, 1)
    return client.client.infer({name: array[np.newaxis] for name, array in row.items()}, deadline=DEADLINE_S)
