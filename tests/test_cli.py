"""The command line: a change of a command or an option is a change of this list."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from cleave.builders.errors import BuilderError
from cleave.cli import main, parser

OPTIONS = {
    "inspect": {"name", "--size", "--history", "--candidates", "--gpu", "--precision", "--json"},
    "amortization": {"names", "--size", "--history", "--candidates", "--gpu", "--precision", "--out"},
    "build": {
        "name",
        "--size",
        "--out",
        "--catalogue",
        "--precision",
        "--summary-dtype",
        "--data",
        "--target",
        "--architectures",
        "--layers",
        "--timing-cache",
        "--memory-limit",
        "--version-compatible",
        "--hardware-compatible",
        "--check",
    },
    "catalogue": {"out", "--data"},
    "train": {
        "name",
        "--data",
        "--size",
        "--seed",
        "--epochs",
        "--learning-rate",
        "--weight-decay",
        "--threads",
        "--out",
        "--json",
    },
}
"""Of the commands of `builders`; without --help."""

HEAVY = ("torch", "onnx", "onnxruntime", "polars", "tritonclient", "networkx")
"""Packages that a command imports when it runs, not before."""


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert isinstance(found, dict)
    return found


def options(command: argparse.ArgumentParser) -> set[str]:
    named = {action.option_strings[-1] if action.option_strings else action.dest for action in command._actions}
    return named - {"--help"}


@pytest.mark.parametrize("command", OPTIONS)
def test_options_are_those_that_are_documented(command: str) -> None:
    assert options(commands()[command]) == OPTIONS[command]


def test_every_command_and_every_option_has_a_help_text() -> None:
    top = parser().format_help()
    for name, command in commands().items():
        assert name in top
        assert command.description
        assert all(action.help for action in command._actions), name


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom cleave.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: cleave")
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("words", [[], ["unknown"], ["inspect"], ["build", "append", "--unknown"]])
def test_wrong_use_of_the_command_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(words)
    assert raised.value.code == 2
    assert capsys.readouterr().err.startswith("usage: cleave")


def test_errors_are_one_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*words: object) -> None:
        raise BuilderError("axis 'history': too long; make it shorter")

    monkeypatch.setattr("cleave.builders.load.load_ranker", fail)
    assert main(["inspect", "append"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "cleave inspect: axis 'history': too long; make it shorter\n"
