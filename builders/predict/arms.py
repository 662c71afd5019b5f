"""The arms: the ways to serve one model. The one table of what each of them runs, sends, keeps and looks like.

A new arm is a row of `ARMS`; where it is sent in a new way, `cleave.perf.arms` gets the function that makes its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cleave.builders.names import CANDIDATE_SCORER, HISTORY_ENCODER, UNCACHED, WHOLE, model_name
from cleave.builders.spec import Axis, Ranker, Tensor

if TYPE_CHECKING:
    from cleave.builders.cost.flops import Flops
    from cleave.builders.cut.cut import Cut

PER_CANDIDATE_ROWS = 16
"""Candidates of one call of an arm that sends a row for each: enough rows to fill matrix products, and little enough
memory."""

Sent = Literal["row", "row_and_user_id", "row_per_candidate"]
"""A row of the batch for each user with all candidates; the same with the user's id, by which a summary is kept; a row
for each candidate, with the user's history in every one."""


@dataclass(frozen=True)
class Arm:
    """A way to serve a ranker.

    Args:
        name: as workloads and reports call it.
        served: the model of the repository that answers, as in `names`; None where another server than Triton does.
        parts: of the cut, that run for a request, in this order.
        sent: how a request becomes rows of a batch.
        runs: what the server runs for a request, in words.
        simpler: the arm that this one has to beat to be worth having.
        on_miss: the arm that does the work of a request whose summary is not kept.
        marker: in plots, as matplotlib names it.
        shape: what the marker looks like, in words.
        colours: on a light page and on a dark one.
    """

    name: str
    served: str | None
    parts: tuple[str, ...]
    sent: Sent
    runs: str
    marker: str
    shape: str
    colours: tuple[str, str]
    simpler: str | None = None
    on_miss: str | None = None

    @property
    def row_per_candidate(self) -> bool:
        """Whether every candidate is a row of its own."""
        return self.sent == "row_per_candidate"

    @property
    def keeps_summaries(self) -> bool:
        """Whether the server knows users by their id."""
        return self.sent == "row_and_user_id"

    @property
    def reads_summary(self) -> bool:
        """Whether the parts that run are those of the cut, with a summary between them."""
        return CANDIDATE_SCORER in self.parts

    def model(self, ranker: str) -> str:
        """The served model's name."""
        assert self.served is not None, f"{self.name} asks no model of the repository"
        return model_name(ranker, self.served)


BASELINE = "per_candidate"
"""The arm that ratios are taken to."""

DEFAULT = "cached"
"""The arm to use."""

LITSERVE = "litserve"
"""The arm of another server, and the package that it is: see `cleave.perf.run.litserve`."""

# fmt: off
ARMS = {
    arm.name: arm
    for arm in (
        Arm(BASELINE, WHOLE, (WHOLE,), "row_per_candidate", "the whole model on a row per candidate",
            "s", "square", ("#6e7781", "#9aa4af")),
        Arm("single_pass", WHOLE, (WHOLE,), "row", "the whole model on one row",
            "^", "triangle", ("#0969da", "#58a6ff"), simpler=BASELINE),
        Arm("uncached", UNCACHED, (HISTORY_ENCODER, CANDIDATE_SCORER), "row", "history encoder, candidate scorer",
            "D", "diamond", ("#bc4c00", "#f0883e")),
        Arm(DEFAULT, "", (CANDIDATE_SCORER,), "row_and_user_id", "candidate scorer on the kept summary",
            "o", "circle", ("#1a7f37", "#3fb950"), simpler="single_pass", on_miss="uncached"),
        Arm(LITSERVE, None, (WHOLE,), "row", "the whole model in torch",
            "v", "triangle upside down", ("#8250df", "#bc8cff")),
    )
}
# fmt: on
"""By name, from the dearest to the cheapest, and then those of other servers."""

TRITON_ARMS = {name: arm for name, arm in ARMS.items() if arm.served is not None}
"""Those that ask a model of the repository."""


def flops_of_arm(arm: Arm, flops: Mapping[str, Flops], sizes: Mapping[str, int], candidate_axis: str) -> int:
    """FLOPs of one request of one user.

    Args:
        flops: of each part.
        sizes: of every axis by name.
        candidate_axis: the name of the axis that counts candidates.
    """
    run = [flops[part] for part in arm.parts]
    if arm.row_per_candidate:
        return sum(each.one_by_one(sizes, candidate_axis) for each in run)
    return sum(each.at(sizes) for each in run)


def flops_of_arms(cut: Cut, sizes: Mapping[str, int]) -> dict[str, int]:
    """FLOPs of one request of one user in each arm of `TRITON_ARMS`."""
    axis = cut.ranker.candidate_axis.name
    return {name: flops_of_arm(arm, cut.flops, sizes, axis) for name, arm in TRITON_ARMS.items()}


def ratios(flops: Mapping[str, int]) -> dict[str, float]:
    """FLOPs of the baseline over those of each other arm; infinite for an arm without any."""
    return {arm: flops[BASELINE] / count if count else float("inf") for arm, count in flops.items() if arm != BASELINE}


def network_bytes(arm: Arm, ranker: Ranker, sizes: Mapping[str, int]) -> int:
    """The tensors of one request and of its answer; of user ids, headers and padding nothing is counted.

    A request of an arm that keeps summaries has a user id and no history.
    """
    user, request, pairs = (
        sum(_tensor_bytes(tensor, sizes) for tensor in tensors)
        for tensors in (ranker.user, ranker.request, ranker.candidate + ranker.output)
    )
    sent: dict[Sent, int] = {
        "row": user + request,
        "row_and_user_id": request,
        "row_per_candidate": sizes[ranker.candidate_axis.name] * (user + request),
    }
    return sent[arm.sent] + pairs


def _tensor_bytes(tensor: Tensor, sizes: Mapping[str, int]) -> int:
    count = tensor.numpy_dtype.itemsize
    for axis in tensor.axes:
        count *= sizes[axis.name] if isinstance(axis, Axis) else axis
    return count
