"""`cleave verify`: engines against ONNX Runtime, and the scores of a server against torch's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from builders.difference import TOLERANCES, largest_difference
from builders.engine_parity import (
    Case,
    Verified,
    VerifyError,
    cases_for,
    engine_from_file,
    parts_of_repository,
    verify_parts,
)
from builders.manifest import check_one_build
from builders.parity import torch_outputs
from builders.spec import Ranker
from perf.arms import ARMS, BASELINE, Arm, ArmClient, Request, request_from_arrays
from perf.server import server_with_store
from serving.repository import check_models, models_of

CONFIG_NAME = "tensorrt"


def verify(ranker: Ranker, repository: Path, url: str | None, say: Callable[[str], None]) -> None:
    """Verify the engines of a ranker on this machine's GPU, and what a server makes of them.

    Args:
        url: gRPC of a server that serves this repository; by default one is started.
        say: told what was verified.

    Raises:
        VerifyError: names the first output that differs, where, and by how much.
        ManifestError: the engines are not fit to be served here.
    """
    models = models_of(repository, ranker.name)
    check_models(repository, models, CONFIG_NAME)
    manifests = check_one_build([repository / model for model in models])
    parts = parts_of_repository(repository, manifests, engine_from_file)
    cases = cases_for(ranker, parts)
    for verified in verify_parts(parts, cases):
        say(str(verified))
    with contextlib.ExitStack() as stack:
        if url is None:
            url = stack.enter_context(server_with_store(repository, ranker.name, CONFIG_NAME)).grpc_url
        for verified in verify_server(url, ranker, cases, max(TOLERANCES[part.precision] for part in parts)):
            say(str(verified))


@dataclass(frozen=True)
class _Asked:
    """The first user of a case, and what torch scores."""

    case: Case
    request: Request
    scores: NDArray[Any]


def verify_server(url: str, ranker: Ranker, cases: Sequence[Case], tolerance: float) -> Iterator[Verified]:
    """Compare the scores of single users with torch's, by each arm that scores a list at once; yields as they are done.

    Raises:
        VerifyError: as `verify`.
    """
    asked = [_asked(ranker, case) for case in cases]
    for arm in (arm for arm in ARMS.values() if arm.name != BASELINE):
        with ArmClient(url, ranker.name, arm) as client:
            largest = max(_checked(client, arm, ranker, each, tolerance) for each in asked)
        yield Verified(f"{arm.model(ranker.name)} as served ({arm.name})", len(cases), largest, tolerance)


def _asked(ranker: Ranker, case: Case) -> _Asked:
    inputs = {t.name: case.inputs[t.name][:1].reshape(1, *t.shape(case.sizes)) for t in ranker.inputs}
    scores = torch_outputs(ranker, inputs)[ranker.output[0].name][0]
    return _Asked(case, request_from_arrays(ranker, {name: array[0] for name, array in inputs.items()}), scores)


def _checked(client: ArmClient, arm: Arm, ranker: Ranker, asked: _Asked, tolerance: float) -> float:
    """The largest difference of two requests: the second finds the summary of the first."""
    largest = 0.0
    for _ in range(2):
        found = largest_difference(ranker.output[0].name, asked.scores, client.scores(asked.request))
        if said := found.beyond(tolerance):
            raise VerifyError(
                f"{arm.model(ranker.name)} as served ({asked.case}): {said}; see that the server has this build"
            )
        largest = max(largest, found.size)
    return largest
