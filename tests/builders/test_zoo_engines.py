"""Models of the zoo compile for a GPU in float16, with their attention fused."""

from __future__ import annotations

import dataclasses

import pytest

from builders.build import Request, cut_as_configured
from builders.engine_check import Check, check_engines
from builders.split import Cut
from builders.tensorrt_parts import tensorrt_parts
from tests.zoo_cuts import NUM_ITEMS


def checks_of(cut: Cut) -> list[Check]:
    # The first profile only: each takes as long as the first to compile.
    parts = [dataclasses.replace(part, profiles=part.profiles[:1]) for part in tensorrt_parts(cut)[1:]]
    return list(check_engines(parts, "float16", ["SM89"]))


@pytest.mark.parametrize(("name", "fused"), [("append", (1, 2)), ("vista", (0, 2))])
def test_every_softmax_attention_becomes_one_kernel(name: str, fused: tuple[int, int]) -> None:
    """Of the history encoder and the candidate scorer; VISTA's encoder has no softmax."""
    cut = cut_as_configured(Request(name, {"num_items": NUM_ITEMS, "width": 32, "heads": 2}, precision="float16"))
    checks = checks_of(cut)
    assert [check.refusal for check in checks] == ["", ""]
    assert tuple(len(check.fused_attentions) for check in checks) == fused
