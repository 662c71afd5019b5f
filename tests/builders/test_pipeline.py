from __future__ import annotations

from pathlib import Path

import pytest

from cleave.builders import pipeline as build
from cleave.builders.cut.summary_dtype import with_summary_dtype
from cleave.builders.training.data_download import DATA_VARIABLE
from tests.zoo_cuts import zoo_cut


def test_a_build_of_fewer_bits_fetches_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the first start of a server that may not reach the internet."""
    cut = zoo_cut("vista")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    monkeypatch.setattr(build, "load_ranker", lambda name, sizes: cut.ranker)
    monkeypatch.setattr(build, "cut_ranker", lambda ranker: cut)
    monkeypatch.setattr(build, "prove", lambda cut, **options: ())
    monkeypatch.setattr(build, "COMPARED_SEEDS", 1)
    monkeypatch.setattr(build, "narrowed", lambda cut, precision, dtype: with_summary_dtype(cut, "float16"))
    said: list[str] = []
    narrowed = build.build(build.Request("vista", precision="float16"), say=said.append).narrowed
    assert narrowed is not None
    assert narrowed.test_auc is None
    assert said[-1] == "vista: no test AUC, for want of data; `cleave catalogue FILE` fetches MovieLens-100k"
    assert list(tmp_path.iterdir()) == []
