"""Draws the users of a soak and asks the torch module for the scores of all of their histories."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cleave.builders.cut.cut import cut_ranker
from cleave.builders.cut.proof.truth import torch_outputs
from cleave.builders.load import load_ranker
from cleave.builders.onnx_graph.random_inputs import draw_inputs
from cleave.builders.repository import write_repository
from cleave.builders.spec import Ranker
from cleave.perf.errors import PerfError
from cleave.perf.soak.people import CANDIDATE, HISTORY, LONGEST, POOL, REQUEST, USERS, People
from cleave.perf.soak.server import MODEL, SIZES

WEIGHT_NOISE = 0.3


def write_subject(repository: Path, seed: int) -> People:
    """Build the model that is tried, and draw its users."""
    cut = cut_ranker(telling(load_ranker(MODEL, SIZES), seed))
    write_repository(cut, repository, f"cleave build {MODEL}")
    return draw_people(cut.ranker, seed)


def telling(ranker: Ranker, seed: int) -> Ranker:
    """The ranker with weights as far from their initial values as trained ones, so that every event tells in scores."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in ranker.module.parameters():
            parameter.add_(WEIGHT_NOISE * torch.randn(parameter.shape, generator=generator))
    return ranker


def draw_people(ranker: Ranker, seed: int) -> People:
    """All users with the truth of every length of their histories; equal seeds draw equal users.

    Args:
        ranker: of a cut, so that the range of every id is known.

    Raises:
        PerfError: an input of the user has no axis of events, so that no history grows.
    """
    axis = ranker.history_axis
    if axis is None or any(tensor.axes[:1] != (axis,) for tensor in ranker.user):
        raise PerfError(
            f"soak: expected a ranker whose user inputs all begin with the axis of events, got {ranker.name!r} with "
            f"{', '.join(tensor.name for tensor in ranker.user)}; name another"
        )
    sizes = ranker.sizes("opt", **{axis.name: LONGEST, ranker.candidate_axis.name: POOL})
    drawn = draw_inputs(ranker, sizes, USERS, np.random.default_rng(seed))
    histories = [tensor.name for tensor in ranker.user]
    lengths = tqdm(range(1, LONGEST + 1), "scores of torch", file=sys.stderr, leave=False, disable=None)
    truth = [
        torch_outputs(ranker, {name: array[:, :n] if name in histories else array for name, array in drawn.items()})
        for n in lengths
    ]
    roles = {HISTORY: ranker.user, REQUEST: ranker.request, CANDIDATE: ranker.candidate}
    inputs = {role: {tensor.name: drawn[tensor.name] for tensor in tensors} for role, tensors in roles.items()}
    return People(inputs, np.stack([outputs[ranker.output[0].name] for outputs in truth], axis=1))
