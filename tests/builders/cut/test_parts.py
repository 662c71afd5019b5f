"""A part of a cut is one entry: whatever is made of the parts is made of it, too."""

from __future__ import annotations

import dataclasses

import pytest

from cleave.builders.cut.cut import Cut
from cleave.builders.cut.narrow import narrowed
from cleave.builders.names import HISTORY_ENCODER, SUMMARY, USER, model_name
from cleave.builders.reports.inspect import inspect_report
from cleave.builders.targets.tensorrt.forms import tensorrt_parts
from cleave.builders.triton import configs, graphs
from cleave.builders.triton.configs import REPOSITORY_MODELS, RepositoryModel, base_configs
from cleave.builders.triton.graphs import artifacts_of

OTHER = "other_encoder"


@pytest.fixture
def cut(small_cut: Cut) -> Cut:
    """With a second encoder."""
    return dataclasses.replace(small_cut, parts={**small_cut.parts, OTHER: small_cut.parts[HISTORY_ENCODER]})


@pytest.mark.parametrize(("precision", "summary_dtype"), [("float16", None), ("bfloat16", "int8"), ("float32", "int8")])
def test_it_is_narrowed(cut: Cut, precision: str, summary_dtype: str | None) -> None:
    narrow = narrowed(cut, precision, summary_dtype)
    other, encoder = (narrow.parts[name].graph.SerializeToString() for name in (OTHER, HISTORY_ENCODER))
    assert other == encoder != cut.history_encoder.SerializeToString()


def test_it_is_reported_and_compiled(cut: Cut) -> None:
    report = inspect_report(cut, cut.ranker.sizes("opt"))
    assert report.flops[OTHER] == report.flops[HISTORY_ENCODER]
    assert report.weight_bytes[OTHER] == report.weight_bytes[HISTORY_ENCODER]
    assert model_name("small", OTHER) in [part.name for part in tensorrt_parts(cut)]


def test_it_is_served_with_one_more_row(cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    models = (*REPOSITORY_MODELS, RepositoryModel(OTHER, "graph", (USER,), (SUMMARY,)))
    for module in (configs, graphs):
        monkeypatch.setattr(module, "REPOSITORY_MODELS", models)
    made = artifacts_of(cut)
    assert made[model_name("small", OTHER)] == made[model_name("small", HISTORY_ENCODER)] is not None
    served = {config.name: config for config in base_configs(cut)}
    other, encoder = (served[model_name("small", name)] for name in (OTHER, HISTORY_ENCODER))
    assert (list(other.input), list(other.output)) == (list(encoder.input), list(encoder.output))
