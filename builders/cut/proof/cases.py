"""The cases that a proof is made of: users in a batch, and lists of candidates."""

from __future__ import annotations

from dataclasses import dataclass

from cleave.builders.cut.proof.users import Lengths
from cleave.builders.onnx_graph.random_inputs import AnyArray

SMALL = 64
"""Sizes up to this cost next to nothing, and are tried in every way."""

BUCKETS = "around buckets"
BELOW = "just below large buckets"
CONSTANTS = "around numbers of the graph"
REPEATED = "of one length"
TOGETHER = "with all mixtures of axes"
LARGEST = "of the largest sizes"
LONGER = "longer than the axis"
AT_RANDOM = "of any size"


@dataclass(frozen=True)
class Users:
    """Users in one batch, served at each of some sizes; `seed` and `alike` are those of `draw_user`."""

    lengths: tuple[Lengths, ...]
    paddings: tuple[Lengths, ...]
    seed: int = 0
    alike: bool = False


@dataclass(frozen=True, eq=False)
class CandidateList:
    """Candidates of a pool, by their place there and in this order, scored together for one user."""

    order: AnyArray


@dataclass(frozen=True)
class Step:
    """A part of a proof; those that are not `required` are left out where the time is up."""

    kind: str
    """One of the above."""
    case: Users | CandidateList
    required: bool
    work: float

    def __str__(self) -> str:
        return f"{'batches of users' if isinstance(self.case, Users) else 'lists'} {self.kind}"
