"""Modules that are not ours: they export, are cut where they can be, and are built by the command line."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

import cleave.builders.pipeline
from cleave.builders.contract.manifest import check_one_build
from cleave.builders.cut.cut import Cut, cut_ranker
from cleave.builders.cut.proof.prove import prove
from cleave.builders.predict.arms import flops_of_arms, ratios
from cleave.cli import main
from tests.builders.models.din import NUM_CATEGORIES, NUM_ITEMS, ranker
from tests.builders.models.foreign import MODULES, foreign_cut

DIN = f"{Path(__file__).parents[1] / 'models' / 'din.py'}:ranker"
MODELS = ["din", "din_candidate_scorer", "din_history_encoder", "din_summary_cache", "din_uncached", "din_whole"]


@functools.cache
def din_cut() -> Cut:
    return cut_ranker(ranker)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DIN as the command line builds it, from a folder that knows nothing of it."""
    folder = tmp_path_factory.mktemp("din")
    done = subprocess.run(
        [sys.executable, "-m", "cleave", "build", DIN, "--out", "repository"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "din: exporting and cutting",
        "din: proving that what is served scores as the module does",
        "next: cleave serve din --repository repository",
    ]
    lines = done.stdout.splitlines()
    assert lines[0].startswith("proof: ")
    assert lines[-1].startswith("built din ")
    return folder / "repository"


@pytest.fixture
def one_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """DIN is exported once for all checks."""
    monkeypatch.setattr(cleave.builders.pipeline, "cut_ranker", lambda ranker: din_cut())


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}


def test_a_module_that_is_not_ours_is_built(built: Path) -> None:
    assert sorted(path.name for path in built.iterdir()) == MODELS
    manifests = check_one_build([built / model for model in MODELS])
    assert {manifest.ranker for manifest in manifests} == {"din"}
    assert {manifest.build_command for manifest in manifests} == {f"cleave build {DIN} --out repository"}


@pytest.mark.usefixtures("one_export")
def test_check_agrees_with_the_build_and_writes_nothing(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(built)
    assert main(["build", DIN, "--out", str(built), "--check"]) == 0
    assert capsys.readouterr().out == f"din: the configs in {built} are those of this build\n"
    assert contents(built) == before


@pytest.mark.usefixtures("one_export")
def test_check_shows_what_was_edited(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = built / "din_whole" / "config.pbtxt"
    text = config.read_text()
    config.write_text(text.replace("max_batch_size: 64", "max_batch_size: 63"))
    before = contents(built)
    try:
        assert main(["build", DIN, "--out", str(built), "--check"]) == 1
        assert contents(built) == before
    finally:
        config.write_text(text)
    captured = capsys.readouterr()
    assert "-max_batch_size: 63\n+max_batch_size: 64\n" in captured.out
    assert f"din: the configs in {built} differ" in captured.err


def test_ids_that_the_spec_leaves_open_are_read_off_the_tables() -> None:
    assert {tensor.name: tensor.high for tensor in din_cut().ranker.inputs if tensor.dtype == "int64"} == {
        "clicked_items": NUM_ITEMS,
        "clicked_categories": NUM_CATEGORIES,
        "items": NUM_ITEMS,
        "categories": NUM_CATEGORIES,
    }


def test_of_din_the_ids_and_the_users_share_of_the_first_layer_are_kept() -> None:
    """Every event meets the candidate in the first layer, as its authors have it; that layer is taken apart."""
    cut = din_cut()
    assert sorted(tensor.dtype for tensor in cut.summary) == ["float32", "int64", "int64"]
    assert cut.first_mix is not None
    assert cut.first_mix.module == "model"
    assert ratios(flops_of_arms(cut, cut.ranker.sizes("opt")))["cached"] > 3.4


@pytest.mark.parametrize("name", MODULES)
def test_models_as_others_write_them_are_cut_and_proven(name: str) -> None:
    cut = foreign_cut(name)
    assert all(tensor.high for tensor in cut.ranker.inputs)
    assert prove(cut).difference < 1e-5
    assert cut.flops["history_encoder"].uncounted == ()


def kept(name: str) -> dict[str, list[str]]:
    return {tensor.name: [str(size) for size in tensor.dims] for tensor in foreign_cut(name).summary}


def test_fused_projections_of_one_sequence_are_taken_apart() -> None:
    """K and V of both layers and a mask; history rows of the last layer are read by nobody."""
    keys = ["batch", "2", "4", "history"], ["batch", "2", "history", "4"]
    assert sorted(shape for name, shape in kept("keys_of_history").items() if "mask" not in name) == sorted(
        [*keys, *keys]
    )
    assert len(kept("keys_of_history")) == 5


@pytest.mark.parametrize("name", ["torch_layers", "sequence_first"])
def test_layers_of_torch_leave_keys_and_values(name: str) -> None:
    shapes = kept(name)
    assert sorted(shape for tensor, shape in shapes.items() if "mask" not in tensor) == [
        ["batch", "2", "4", "history"],
        ["batch", "2", "history", "4"],
    ]
    encoder, scorer = (foreign_cut(name).flops[part] for part in ("history_encoder", "candidate_scorer"))
    sizes = {"history": 200, "candidates": 16}
    assert encoder.at(sizes) > 2 * scorer.at(sizes)
