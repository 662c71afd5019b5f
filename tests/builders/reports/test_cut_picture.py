"""What the picture of a cut shows is what the cut is."""

from __future__ import annotations

from pathlib import Path

import pytest

from cleave.builders.reports.cut_picture import ENCODER, ITEMS, SCORER, CutPicture, write_cut_picture
from cleave.builders.reports.inspect import inspect_report
from cleave.builders.zoo import ZOO
from cleave.cli import main
from tests.zoo_cuts import zoo_cut


@pytest.mark.parametrize("name", ZOO)
def test_boxes_and_crossings_are_those_of_the_cut(name: str) -> None:
    cut = zoo_cut(name)
    sizes = cut.ranker.sizes("opt")
    picture = CutPicture.of(cut, sizes)
    parts = {ENCODER: "history_encoder", ITEMS: "item_tower", SCORER: "candidate_scorer"}
    flops = inspect_report(cut, sizes).flops
    for lane, part in parts.items():
        drawn = sum(box.flops for box in picture.boxes if box.lane == lane)
        assert drawn == pytest.approx(flops[part], rel=0)
    assert [(crossing.name, crossing.num_bytes) for crossing in picture.crossings] == [
        (tensor.name, tensor.bytes_at(sizes)) for tensor in cut.summary
    ]
    assert {box.module for box in picture.boxes} == set(picture.modules)
    assert all(reader in picture.modules for crossing in picture.crossings for reader in crossing.read_by)
    assert all(crossing.read_by for crossing in picture.crossings)


def test_the_last_block_of_append_encodes_keys_and_values_alone() -> None:
    cut = zoo_cut("append")
    (box,) = (
        box
        for box in CutPicture.of(cut, cut.ranker.sizes("opt")).boxes
        if (box.module, box.lane) == ("blocks.1", ENCODER)
    )
    assert box.children == ("key", "value")


def test_equal_cuts_have_equal_pictures(tmp_path: Path) -> None:
    cut = zoo_cut("append")
    files = [tmp_path / name / "cut.svg" for name in ("one", "two")]
    for file in files:
        write_cut_picture(CutPicture.of(cut, cut.ranker.sizes("opt")), file)
    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert b"blocks_1_key" in first


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cut.unknown"
    assert main(["inspect", "concat", "--picture", str(file)]) == 2
    assert "cut.unknown: expected a file to write" in capsys.readouterr().err
