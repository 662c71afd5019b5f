"""The command line: a change of a command or an option is a change of this list."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import version

import pytest

from cleave import DISTRIBUTION
from cleave.builders.errors import BuilderError
from cleave.cli import main, parser

OPTIONS = {
    "inspect": "name --size --history --candidates --gpu --precision --json --picture",
    "amortization": "names --size --history --candidates --gpu --precision --out",
    "build": "name --size --out --catalogue --precision --summary-dtype --examples --tolerance --data --check "
    "--json --target --architectures --layers --timing-cache --memory-limit --version-compatible --hardware-compatible",
    "train": "name --data --size --seed --epochs --learning-rate --weight-decay --threads --out --json",
    "tune": "--models --data --jobs --out",
    "evaluate": "--models --data --jobs --seeds --out --weights",
    "catalogue": "out --data",
    "serve": "names --repository --size --config-name --host --http-port --grpc-port --metrics-port "
    "--tls-cert --tls-key --tls-client-ca --max-queue --max-encodings --store "
    "--store-size --store-dir --max-age --drain --verbose --container",
    "check": "names --repository --size --config-name --json",
    "probe": "names --url --tls-ca --tls-cert --tls-key --timeout",
    "refresh": "name --store --url --tls-ca --tls-cert --tls-key --stream --every --lease --once",
    "rank": "name --user --top --url --tls-ca --tls-cert --tls-key --arm --by-id --data --json",
    "bench": "workload --compare --claims --cache --models --arms --rounds --size --repository --url --metrics-url "
    "--out",
    "verify": "name --size --target --repository --url --json",
    "demo": "name --user --top --rounds --candidates --data",
    "soak": "--minutes --requests --seed --out",
    "fuzz": "--requests --seed --out",
}
"""Every command with all that it takes, but for --help."""

SHARED = ("--size", "--repository", "--url", "--data", "--json")
"""Options that mean the same wherever they are, and take their values in the same form."""

HEAVY = ("torch", "onnx", "onnxruntime", "polars", "tritonclient", "networkx")
"""Packages that a command imports when it runs, not before."""


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert isinstance(found, dict)
    return found


def options(command: argparse.ArgumentParser) -> set[str]:
    named = {action.option_strings[-1] if action.option_strings else action.dest for action in command._actions}
    return named - {"--help"}


def test_commands_and_options_are_these() -> None:
    assert {name: options(command) for name, command in commands().items()} == {
        name: set(words.split()) for name, words in OPTIONS.items()
    }


@pytest.mark.parametrize("option", SHARED)
def test_an_option_of_several_commands_has_one_form(option: str) -> None:
    found = [
        action for command in commands().values() for action in command._actions if option in action.option_strings
    ]
    assert len(found) > 1
    assert len({(action.metavar, action.type, action.nargs) for action in found}) == 1


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    assert f"torch {version('torch')}" in lines


def test_a_version_is_given_where_a_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cleave.cli.PACKAGES", ("no-such-package",))
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.splitlines()[1:] == ["no-such-package not installed"]


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
