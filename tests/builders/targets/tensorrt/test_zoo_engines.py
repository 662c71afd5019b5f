"""Models of the zoo compile for a GPU in float16, with their attention fused."""

from __future__ import annotations

import pytest

from cleave.builders.cut.cut import Cut
from cleave.builders.cut.narrow import narrowed
from cleave.builders.pipeline import BuildOptions, cut_as_configured
from cleave.builders.targets.tensorrt.check import CheckedPart, check_engines
from cleave.builders.targets.tensorrt.forms import Form, TensorRTPart, tensorrt_parts
from cleave.builders.zoo import ZOO
from tests.zoo_cuts import zoo_cut

FUSED = {"append": (1, 2), "concat": (0, 2), "hstu": (0, 0), "vista": (0, 2), "lime_mha": (1, 0), "lime_xor": (0, 0)}


def checks_of(cut: Cut) -> list[CheckedPart]:
    # The first profile only: each takes as long as the first to compile.
    parts = [
        TensorRTPart(part.name, tuple(Form(form.model, form.profiles[:1]) for form in part.forms))
        for part in tensorrt_parts(cut)[1:]
    ]
    return list(check_engines(parts, "float16", ["SM89"]))


@pytest.mark.long
@pytest.mark.parametrize("name", ZOO)
def test_every_model_compiles_and_every_softmax_attention_becomes_one_kernel(name: str) -> None:
    """Of the history encoder and the candidate scorer."""
    checks = checks_of(narrowed(wide_enough(name), "float16"))
    assert [check.refusal for check in checks] == ["", ""]
    assert tuple(len(check.fused_attentions) for check in checks) == FUSED[name]
    assert all(check.activation_bytes is not None for check in checks)


def wide_enough(name: str) -> Cut:
    """The committed model; VISTA wider, as TensorRT fuses no heads that are 8 wide."""
    return zoo_cut(name) if name != "vista" else cut_as_configured(BuildOptions(name, {"width": 32}))
