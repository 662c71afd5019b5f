"""Every model of the zoo compiles for a GPU in float16, with its attention fused."""

from __future__ import annotations

import dataclasses

import pytest

from builders.build import Request
from builders.engine_check import check_engines
from builders.tensorrt_parts import tensorrt_parts
from builders.zoo import ZOO
from tests.zoo_cuts import zoo_cut

FUSED = {
    "append": {"history_encoder": 1, "candidate_scorer": 2},
    "concat": {"history_encoder": 0, "candidate_scorer": 2},
    "hstu": {"history_encoder": 0, "candidate_scorer": 0},
    "vista": {"history_encoder": 0, "candidate_scorer": 2},
    "lime_mha": {"history_encoder": 1, "candidate_scorer": 0},
    "lime_xor": {"history_encoder": 0, "candidate_scorer": 0},
}
"""HSTU's attention and LIME-XOR's have no softmax; LIME's scorer reads links by weights that it has before."""


@pytest.mark.parametrize("name", ZOO)
def test_every_part_compiles_and_softmax_attention_is_one_kernel(name: str) -> None:
    cut = Request(name, precision="float16").narrow(zoo_cut(name))
    # The first profile only: each takes as long as the first to compile.
    parts = [dataclasses.replace(part, profiles=part.profiles[:1]) for part in tensorrt_parts(cut)[1:]]
    checks = list(check_engines(parts, "float16", ["SM89"]))
    assert [check.refusal for check in checks] == ["", ""]
    assert {check.part.removeprefix(f"{name}_"): len(check.fused_attentions) for check in checks} == FUSED[name]
