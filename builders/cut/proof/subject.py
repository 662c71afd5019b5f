"""What is proven: a module, and each way in which it is served, as functions of inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cleave.builders.cut.cut import Cut
from cleave.builders.cut.encoder_then_scorer import EncoderThenScorer
from cleave.builders.cut.proof.agreement import Referee
from cleave.builders.cut.proof.constants import constants_of
from cleave.builders.cut.proof.users import Lengths
from cleave.builders.onnx_graph.random_inputs import Arrays
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.spec import Ranker

Scores = Callable[[Arrays], Arrays]
"""Inputs of a batch by name, `[batch, ...]`, to outputs by name."""

WHOLE = "whole model"
PARTS = "history encoder then candidate scorer"
USERS_APART = "summaries encoded one user at a time"


@dataclass(frozen=True)
class Subject:
    """A ranker under proof; tests serve functions where a build has graphs."""

    ranker: Ranker
    """Its module is what is right, for the inputs of one user without padding."""
    served: Mapping[str, Scores]
    """What is served, on padded inputs of a batch; `WHOLE` is among them."""
    referee: Referee
    constants: tuple[int, ...]
    """Whole numbers that the model is made of, ascending: sizes at which it may change its mind."""
    work: Callable[[Lengths], float]
    """How the work of one user grows with the sizes, in any unit."""


def subject_of_cut(cut: Cut, referee: Referee) -> Subject:
    """The graphs of a cut against the module that they were made of."""
    parts = EncoderThenScorer(cut)
    flops = cut.flops["whole"]
    return Subject(
        cut.ranker,
        served={WHOLE: OnnxRunner(cut.whole), PARTS: parts, USERS_APART: parts.with_users_apart},
        referee=referee,
        constants=constants_of(cut.whole),
        work=lambda sizes: 1.0 + flops.at(sizes),
    )
