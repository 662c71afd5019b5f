"""What a target makes of graphs by all of its passes: no score changes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cleave.builders.cut.narrow import narrowed
from cleave.builders.onnx_graph.edit import applied
from cleave.builders.onnx_graph.random_inputs import draw_inputs
from cleave.builders.onnx_graph.session import OnnxRunner
from cleave.builders.passes import ONNXRUNTIME, TENSORRT, TENSORRT_FUSED
from cleave.builders.passes.rounding import rounded
from cleave.builders.zoo import ZOO
from tests.builders.graphs import ops
from tests.builders.models.foreign import foreign_cut
from tests.builders.passes.test_int32_ids import int64_nodes
from tests.zoo_cuts import zoo_cut

FIXED_AS_INT64 = {"Shape", "Concat", "Squeeze", "Unsqueeze", "Add", "Mul", "Reshape", "Slice", "Gather", "Identity"}
"""What shapes are computed with."""


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ZOO)
def test_no_score_of_the_zoo_changes(name: str, precision: str) -> None:
    """And no int64 is left but shapes and casts, no guard, and half precision has its attention in the operator."""
    cut = narrowed(zoo_cut(name), precision)
    given = draw_inputs(cut.ranker, {"history": 30, "candidates": 9}, 2, np.random.default_rng(0), padded=True)
    given |= OnnxRunner(rounded(cut.history_encoder))(given)
    served = {key: array[:, None] if array.ndim == 1 else array for key, array in given.items()}
    for part in (cut.whole, cut.history_encoder, cut.candidate_scorer):
        changed = applied(TENSORRT, part)
        assert set(int64_nodes(changed)) <= FIXED_AS_INT64 | {"Cast"}
        assert "IsNaN" not in ops(changed)
        reference = applied(ONNXRUNTIME, part)
        before, after = (OnnxRunner(rounded(each), optimized=False)(served) for each in (reference, changed))
        for key, expected in before.items():
            np.testing.assert_allclose(after[key], expected, rtol=0, atol=1e-6)
        if not name.startswith("lime"):  # whose scorer has weights of the item alone, apart from what they weigh
            fused, softmaxes = applied(TENSORRT_FUSED, changed), Counter(ops(changed))["Softmax"]
            assert Counter(ops(fused))["Attention"] == (0 if precision == "float32" else softmaxes)


@pytest.mark.parametrize("name", ["keys_of_history", "joint_mask", "torch_layers"])
def test_no_score_of_torch_s_own_attention_changes(name: str) -> None:
    """Not for a user without events either, who has no key to read in any layer."""
    cut = foreign_cut(name)
    given = draw_inputs(cut.ranker, {"history": 9, "candidates": 5}, 3, np.random.default_rng(0), padded=True)
    given["history"][1] = 0
    expected, got = (OnnxRunner(each)(given)["scores"] for each in (cut.whole, applied(TENSORRT, cut.whole)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_torch_s_own_attention_becomes_one_operator_in_half_precision() -> None:
    narrow = narrowed(foreign_cut("keys_of_history"), "float16")
    for model in (narrow.whole, narrow.candidate_scorer):
        fused = applied((*TENSORRT, *TENSORRT_FUSED), model)
        assert Counter(ops(fused))["Attention"] == 2
        assert not {"IsNaN", "Softmax"} & set(ops(fused))
