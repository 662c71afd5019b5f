"""An error in the user's file is his: one sentence with his line, exit code 2, and the traceback in a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cleave.builders.export.refusals import ExportError
from cleave.builders.export.torch_export import onnx_from_ranker
from cleave.builders.load import load_ranker
from cleave.builders.user_code.failure import LONGEST_REASON, TRACEBACK, UserCodeError
from cleave.cli import main
from tests.builders.user_code.model_files import LINE_OF_FORWARD, LINE_OF_MORE, write_model

SAVED = f" (traceback: {TRACEBACK})"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ranker = Model()", f"NameError: name 'Model' is not defined; correct the file{SAVED}"),
        ("raise ValueError", f"ValueError; correct the file{SAVED}"),
        ("def forward(:", f"SyntaxError: invalid syntax; correct the file{SAVED}"),
        ("raise SystemExit(2)", f"it ends the process with 2; correct the file{SAVED}"),
        (
            "import hashlib; hashlib.new('no such')",
            f"ValueError: unsupported hash type no such; correct the file{SAVED}",
        ),
        ("import pandas", "ModuleNotFoundError: No module named 'pandas'; put that module beside the file, or "),
        ("Axis('h', min=4, opt=3, max=2)", "Axis 'h'.min: expected at most max=2, got 4; swap min and max"),
        (
            "nn.Linear(2, 3).load_state_dict({'w': 1})",
            "RuntimeError: Error(s) in loading state_dict for Linear: ",
        ),
    ],
)
def test_a_file_that_fails(line: str, message: str, user_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(user_folder / "my_model.py", line)
    assert main(["inspect", "my_model.py:ranker"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(f"cleave inspect: my_model.py:{LINE_OF_MORE}: {message}")
    assert len(error.splitlines()) == 1
    if SAVED in error:
        assert f'my_model.py", line {LINE_OF_MORE}' in TRACEBACK.read_text()


def test_the_innermost_line_of_his_is_named(user_folder: Path) -> None:
    (user_folder / "layers.py").write_text("def width(text):\n    return int(text)")
    write_model(user_folder / "my_model.py", "import layers; layers.width('wide')")
    with pytest.raises(UserCodeError, match=r"^layers.py:2: ValueError: invalid literal for int\(\)"):
        load_ranker("my_model.py:ranker")


def test_long_reasons_are_cut(user_folder: Path) -> None:
    write_model(user_folder / "my_model.py", "raise ValueError('x' * 10_000)")
    with pytest.raises(UserCodeError) as raised:
        load_ranker("my_model.py:ranker")
    assert len(str(raised.value)) < LONGEST_REASON + 100


def test_a_traceback_that_cannot_be_written_is_not_named(user_folder: Path) -> None:
    (user_folder / TRACEBACK.parts[0]).write_text("no user_folder")
    write_model(user_folder / "my_model.py", "raise ValueError('no')")
    with pytest.raises(UserCodeError, match=rf"^my_model.py:{LINE_OF_MORE}: ValueError: no; correct the file$"):
        load_ranker("my_model.py:ranker")


def test_a_forward_that_fails(user_folder: Path) -> None:
    write_model(user_folder / "my_model.py", forward="return events @ items")
    message = (
        rf"^my_model.py:{LINE_OF_FORWARD}: RuntimeError: .*; make names, types and axes of the spec fit the module, "
        r"which was called with events int64 \[2, 3\], items int64 \[2, 3\] \(traceback"
    )
    with pytest.raises(UserCodeError, match=message):
        onnx_from_ranker(load_ranker("my_model.py:ranker"))


def test_a_forward_that_fails_at_the_smallest_sizes(user_folder: Path) -> None:
    write_model(user_folder / "my_model.py", forward="return items.float() + events[:, [1]]")
    message = rf"^my_model.py:{LINE_OF_FORWARD}: IndexError: .* events int64 \[2, 1\],"
    with pytest.raises(UserCodeError, match=message):
        onnx_from_ranker(load_ranker("my_model.py:ranker"))


def test_a_forward_that_takes_other_names_has_no_line(user_folder: Path) -> None:
    write_model(user_folder / "my_model.py")
    ranker = load_ranker("my_model.py:ranker")
    ranker.module.forward = lambda history, items: items
    with pytest.raises(UserCodeError, match=r"TypeError: .*unexpected keyword argument 'events'; make names, types"):
        onnx_from_ranker(ranker)


def test_what_cannot_be_exported_has_its_line(user_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_model(user_folder / "my_model.py", forward="return items.float() * (1 if events.sum() > 0 else 2)")
    with pytest.raises(ExportError, match=rf"^my_model.py:{LINE_OF_FORWARD}: the module takes a branch, or a size"):
        onnx_from_ranker(load_ranker("my_model.py:ranker"))
    assert capfd.readouterr() == ("", "")


def test_what_forward_prints_is_no_result(user_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(user_folder / "my_model.py", forward="print('shapes'); return items.float() + events.float().sum()")
    onnx_from_ranker(load_ranker("my_model.py:ranker"))
    out, error = capsys.readouterr()
    assert out == ""
    assert set(error.splitlines()) == {"shapes"}


def test_lines_are_found_by_path(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(user_folder / "models" / "my_model.py", "raise ValueError('no')")
    (user_folder / "elsewhere").mkdir()
    monkeypatch.chdir(user_folder / "elsewhere")
    with pytest.raises(
        UserCodeError, match=rf"^{re.escape(str(user_folder))}/models/my_model.py:{LINE_OF_MORE}: Value"
    ):
        load_ranker("../models/my_model.py:ranker")
