"""`cleave verify`: compares engines with ONNX Runtime, and the scores of a server with those of torch."""

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
from cleave.builders.predict.arms import TRITON_ARMS
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
"""The user whose summaries the server keeps during the verification, and forgets afterwards."""


def verify(ranker: Ranker, repository: Path, target: Target, url: str | None) -> Iterator[Verified]:
    """Verify the engines of a ranker on this machine, and the scores of a server that runs them.

    Args:
        ranker: the one that was built.
        repository: the folder of its build.
        target: one that has engines.
        url: the gRPC address of a server that serves this repository; by default one is started.

    Yields:
        Each comparison that held, as soon as it was made.

    Raises:
        VerifyError: names the first output that differs, where, and by how much.
        ManifestError: the engines cannot be served here.
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
        PerfError: names the model, and the backend that runs it.
    """
    for model in models:
        if (runs := platform_of(url, model)) != PLAN_PLATFORM:
            raise PerfError(
                f"--url {url}: expected {model} as an engine ({PLAN_PLATFORM}), got one of {runs}; start the server "
                f"with --config-name {target.config_name}"
            )


@dataclass(frozen=True)
class _ScoredCase:
    """The request of the first user of a case, and the scores that torch gives it, [num_candidates]."""

    case: EngineCase
    request: RankRequest
    scores: NDArray[Any]


def verify_server(url: str, ranker: Ranker, cases: Sequence[EngineCase], tolerance: float) -> Iterator[Verified]:
    """Compare the scores of single users with those of torch, by each arm that scores a list of candidates at once.

    Raises:
        VerifyError: names the first output that differs, where, and by how much.
    """
    scored = [_scored_by_torch(ranker, case) for case in cases]
    for arm in (arm for arm in TRITON_ARMS.values() if not arm.row_per_candidate):
        with ArmClient(url, ranker.name, arm) as client:
            largest = max(_largest_difference(client, ranker, each, tolerance) for each in scored)
        yield Verified(f"{arm.model(ranker.name)} as served ({arm.name})", len(cases), largest, tolerance)


def _scored_by_torch(ranker: Ranker, case: EngineCase) -> _ScoredCase:
    inputs = {t.name: case.inputs[t.name][:1].reshape(1, *t.shape(case.sizes)) for t in ranker.inputs}
    scores = torch_outputs(ranker, inputs)[ranker.output[0].name][0]
    request = request_from_arrays(ranker, {name: array[0] for name, array in inputs.items()})
    return _ScoredCase(case, dataclasses.replace(request, user_id=VERIFY_USER), scores)


def _largest_difference(client: ArmClient, ranker: Ranker, scored: _ScoredCase, tolerance: float) -> float:
    """The largest difference over two equal requests: where summaries are kept, the second finds that of the first."""
    arm, output, largest = client.arm, ranker.output[0].name, 0.0
    where = f"{arm.model(ranker.name)} as served ({scored.case})"
    try:
        outputs = [_outputs(client, scored.request) for _ in range(2)]
    finally:
        if arm.keeps_summaries:
            client.client.forget(VERIFY_USER, deadline=DEADLINE_S)
    for found in outputs:
        difference = largest_difference(output, scored.scores, found[output][0, : scored.request.num_candidates])
        if excess := difference.beyond(tolerance):
            raise VerifyError(f"{where}: {excess}; see that the server has this build")
        largest = max(largest, difference.size)
    if arm.keeps_summaries and (status := outputs[-1][SUMMARY_STATUS].item().decode()) != HIT:
        raise VerifyError(
            f"{where}: the same user again: expected a {HIT}, got {status!r}; see that the server has a store of "
            "summaries, and `cleave serve --store`"
        )
    return largest


def _outputs(client: ArmClient, request: RankRequest) -> dict[str, NDArray[Any]]:
    """Every output, [1, ...], of a request that is one row."""
    (row,) = rows_of(client.arm, client.signature, request, 1)
    return client.client.infer({name: array[np.newaxis] for name, array in row.items()}, deadline=DEADLINE_S)
