"""A target is one entry: the command line, the repository and its check take one that is made up here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cleave import cli
from cleave.builders.contract.engine_record import EngineRecord
from cleave.builders.contract.manifest import read_manifest
from cleave.builders.contract.proof import Proof
from cleave.builders.cut.cut import Cut
from cleave.builders.names import CONFIG_FILE, TENSORRT_CONFIG, named_config_file
from cleave.builders.pipeline import Build
from cleave.builders.targets.registry import CHECKS, DEFAULT, TARGETS
from cleave.builders.targets.target import (
    Built,
    BuiltEngine,
    CheckReport,
    CompileCheck,
    Given,
    ModelConfigs,
    Option,
    Target,
)
from cleave.builders.triton.configs import base_configs, graph_models
from cleave.builders.triton.rules import Configs, Found, Rule
from tests.configs import configs_of

LEVEL = Option("--level", {"type": int, "metavar": "N", "help": "how much is tried"})
ENGINE = "model.engine"
NOTHING_TRIED = Proof(0, 0, {}, 0.0, 0.0, 0.0, {})


@pytest.fixture(autouse=True)
def _every_model_is_the_small_one(small_cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cleave.builders.pipeline.build", lambda *request: Build(small_cut, NOTHING_TRIED, "random"))
    monkeypatch.setattr("cleave.builders.pipeline.cut_as_configured", lambda request: small_cut)


def configs(cut: Cut) -> ModelConfigs:
    made = base_configs(cut)
    for config in made:
        if config.name in graph_models(cut.ranker.name):
            config.backend, config.default_model_filename = "made_up", ENGINE
    return made


def prepare(given: Given) -> Callable[[Cut], Built]:
    def build(cut: Cut) -> Built:
        record = EngineRecord(ENGINE, "", "1.0", "8.9", False, False, [])
        engine = BuiltEngine(f"level {given[LEVEL.key]}".encode(), record)
        return Built("made-up", dict.fromkeys(graph_models(cut.ranker.name), engine), configs(cut))

    return build


def register(monkeypatch: pytest.MonkeyPatch, *rules: Rule) -> Target:
    target = Target("made-up", "as this test has it", configs, "made_up", lambda: rules, (LEVEL,), prepare)
    monkeypatch.setitem(TARGETS, target.name, target)
    return target


def test_a_target_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = register(monkeypatch)
    words = ["build", "small", "--target", "made-up", "--out", str(tmp_path)]
    assert cli.main([*words, "--level", "2"]) == 0
    made = configs_of(tmp_path, target.config_file)
    assert set(made) == {folder.name for folder in tmp_path.iterdir()}
    for name in graph_models("small"):
        assert made[name].backend == "made_up"
        assert (tmp_path / name / "1" / ENGINE).read_bytes() == b"level 2"
        manifest = read_manifest(tmp_path / name)
        assert manifest.plan is not None
        assert manifest.plan.file == ENGINE
        assert "--target made-up --level 2" in manifest.build_command
    for file in (CONFIG_FILE, named_config_file(TENSORRT_CONFIG)):
        assert set(configs_of(tmp_path, file)) == set(made)
    assert cli.main([*words, "--check"]) == 0
    (tmp_path / "small_whole" / target.config_file).write_text("")
    assert cli.main([*words, "--check"]) == 1


def test_its_options_are_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    register(monkeypatch)
    assert cli.main(["build", "small", "--level", "2"]) == 2
    assert "--level: expected --target made-up with it, got --target onnx" in capsys.readouterr().err


def test_its_rules_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(configs: Configs) -> Found:
        yield from (
            (name, "expected nothing, got this") for name, config in configs.items() if config.backend == "made_up"
        )

    register(monkeypatch, never)
    assert cli.main(["build", "small", "--out", str(tmp_path / "out")]) == 1
    assert "small_whole: expected nothing, got this (never)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_check_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(cut: Cut, precision: str, given: Given) -> CheckReport:
        return CheckReport("| part |", [{"part": cut.ranker.name, "level": given[LEVEL.key]}], ["too hard"])

    monkeypatch.setitem(CHECKS, "made-up-check", CompileCheck("made-up-check", "tries", check, (LEVEL,)))
    monkeypatch.chdir(tmp_path)
    words = ["build", "small", "--target", "made-up-check", "--level", "3"]
    assert cli.main(words) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("| part |\n", "too hard\n")
    assert cli.main([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"engines": [{"part": "small", "level": 3}], "refusals": ["too hard"]}
    assert not list(tmp_path.iterdir())


def test_names_of_targets_are_those_they_are_found_by() -> None:
    assert TARGETS[DEFAULT.name] is DEFAULT
    own = [*(target.name for target in TARGETS.values()), *(check.name for check in CHECKS.values())]
    assert own == [*TARGETS, *CHECKS]
    files = [target.config_file for target in TARGETS.values()]
    assert len(set(files)) == len(files)


def test_a_build_says_what_it_did_to_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register(monkeypatch)
    words = ["build", "small", "--target", "made-up", "--out", str(tmp_path), "--json"]
    assert cli.main(words) == 0
    said = json.loads(capsys.readouterr().out)
    manifest = read_manifest(tmp_path / "small")
    assert said["fingerprint"] == manifest.fingerprint
    assert (said["ranker"], said["repository"]) == ("small", str(tmp_path))
    assert set(said["models"]) == {folder.name for folder in tmp_path.iterdir()}
    assert set(said["engines"]) == set(graph_models("small"))
    assert said["engines"]["small_whole"]["record"]["file"] == ENGINE
    assert cli.main([*words, "--check"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ranker": "small",
        "repository": str(tmp_path),
        "same": True,
        "differences": "",
    }
    (tmp_path / "small_whole" / CONFIG_FILE).unlink()
    assert cli.main([*words, "--check"]) == 1
    captured = capsys.readouterr()
    assert not json.loads(captured.out)["same"]
    assert "+++ small_whole/config.pbtxt" in json.loads(captured.out)["differences"]
    assert "differ; run `cleave build small" in captured.err
