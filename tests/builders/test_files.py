"""Files are written whole or not at all, and records are read as they were written or refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from cleave.builders.errors import BuilderError
from cleave.builders.files import read_records, staged, write_bytes, write_records, write_text


@dataclass(frozen=True)
class Trial:
    name: str
    score: float


def test_a_file_is_written_with_its_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "new" / "text"
    write_text(file, "ä")
    assert file.read_text() == "ä"
    write_bytes(file, b"\0")
    assert file.read_bytes() == b"\0"
    assert list(file.parent.iterdir()) == [file]


def test_what_cannot_be_written_whole_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "text"
    write_text(file, "before")

    def write_a_part() -> None:
        with staged(file) as written:
            written.write_text("aft")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_a_part()
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_records_are_read_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "trials.json"
    assert read_records(file, Trial, "trials", "delete it") == []
    trials = [Trial("b", 0.5), Trial("a", 1)]
    write_records(file, trials)
    assert read_records(file, Trial, "trials", "delete it") == trials


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"name": "a"}]', '[{"name": "a", "score": "high"}]', "\ud800"])
def test_what_are_no_records_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "trials.json"
    file.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(BuilderError, match=rf"^{re.escape(str(file))}: expected trials, got .*; delete it$"):
        read_records(file, Trial, "trials", "delete it")
