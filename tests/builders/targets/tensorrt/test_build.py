"""`cleave build --target tensorrt`, with a stand-in for TensorRT and for the driver."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import onnx
import pytest

from cleave import cli
from cleave.builders.contract.manifest import read_manifest
from cleave.builders.contract.proof import Proof
from cleave.builders.cut.cut import Cut
from cleave.builders.names import BATCH, TENSORRT_CONFIG, named_config_file
from cleave.builders.pipeline import Build
from cleave.builders.targets.tensorrt.engine import import_tensorrt
from cleave.builders.targets.tensorrt.forms import Form, TensorRTPart, profiles_of_cut, tensorrt_parts
from cleave.builders.targets.tensorrt.profiles import Profile, ProfileRange
from cleave.builders.triton.configs import MAX_BATCH_SIZE
from tests.builders.contract.test_gpus import fake_nvidia_smi
from tests.builders.targets.tensorrt.recording_tensorrt import VERSION, RecordingTensorRT
from tests.configs import configs_of

PARTS = ("small_whole", "small_history_encoder", "small_candidate_scorer")


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> RecordingTensorRT:
    module = RecordingTensorRT(import_tensorrt("tensorrt_rtx"))
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "driver"
    fake_nvidia_smi(folder, "echo 8.9")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture(autouse=True)
def built(small_cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is the small one, cut before."""
    monkeypatch.setattr("cleave.builders.pipeline.build", lambda *request: Build(small_cut, NOTHING_TRIED, "random"))


NOTHING_TRIED = Proof(0, 0, {}, 0.0, 0.0, 0.0, {})


def build(*words: str) -> int:
    return cli.main(["build", "small", "--target", "tensorrt", *words])


def test_engines_lie_beside_the_graphs_and_manifests_say_what_runs_them(
    small_cut: Cut,
    tensorrt: RecordingTensorRT,
    driver: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    given = ["--timing-cache", f"{tmp_path}/timings", "--memory-limit", "512", "--version-compatible"]
    assert build("--out", str(out), "--layers", f"{tmp_path}/layers", *given) == 0
    assert "engine: small_whole: 4 B, 1 profiles, 0 of 0 attentions fused, unknown memory to run, TensorRT 11." in (
        capsys.readouterr().out
    )
    for name in PARTS:
        manifest = read_manifest(out / name)
        assert (out / name / "1" / "model.onnx").is_file()
        engine = (out / name / "1" / "model.plan").read_bytes()
        assert engine == b"plan"
        assert manifest.plan is not None
        assert manifest.plan.sha256 == hashlib.sha256(engine).hexdigest()
        assert (manifest.plan.tensorrt, manifest.plan.compute_capability) == (VERSION, "8.9")
        assert (manifest.plan.version_compatible, manifest.plan.hardware_compatible) == (True, False)
        assert manifest.plan.profiles == [profile.bounds() for profile in profiles_of_cut(small_cut)[name]]
        assert (tmp_path / "layers" / f"{name}.txt").is_file()
        for word in ["--target tensorrt", "--memory-limit 512", "--version-compatible", f"--out {out}"]:
            assert word in manifest.build_command
    assert read_manifest(out / "small").plan is None
    assert (tmp_path / "timings").read_bytes() == b"measured now"
    assert {config.calls["memory"][1] for config in tensorrt.configs} == {512 << 20}


def test_configs_are_those_of_the_forms_that_tensorrt_took(
    small_cut: Cut,
    tensorrt: RecordingTensorRT,
    driver: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where it refuses the better one, for the batch of the other."""

    def parts(cut: Cut) -> list[TensorRTPart]:
        *others, last = tensorrt_parts(cut)
        refused = onnx.ModelProto()
        refused.CopyFrom(last.forms[0].model)
        refused.graph.node[0].op_type = "Det"
        fewer = tuple(Profile({**p.ranges, BATCH: ProfileRange(1, 2, 4)}) for p in last.forms[0].profiles)
        return [*others, TensorRTPart(last.name, (Form(refused, fewer), Form(last.forms[0].model, fewer)))]

    monkeypatch.setattr("cleave.builders.targets.tensorrt.build.tensorrt_parts", parts)
    assert build("--out", str(tmp_path)) == 0
    assert "small_candidate_scorer: built with attention spelled out, as TensorRT refuses" in capsys.readouterr().err
    served = configs_of(tmp_path, named_config_file(TENSORRT_CONFIG))
    limits = {name.removeprefix("small"): config.max_batch_size for name, config in served.items()}
    assert limits == {"": 4, "_uncached": 4, "_candidate_scorer": 4} | dict.fromkeys(
        ("_whole", "_history_encoder", "_summary_cache"), MAX_BATCH_SIZE
    )
    plan = read_manifest(tmp_path / "small_candidate_scorer").plan
    assert plan is not None
    assert [profile["batch"] for profile in plan.profiles] == [(1, 4)]


def test_a_build_without_engines_leaves_none_of_the_previous_one(
    tensorrt: RecordingTensorRT, driver: Path, tmp_path: Path
) -> None:
    assert build("--out", str(tmp_path / "out")) == 0
    assert cli.main(["build", "small", "--out", str(tmp_path / "out")]) == 0
    assert not list((tmp_path / "out").glob("*/1/model.plan"))


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_a_machine_without_tensorrt_is_told_before_anything_is_built(
    driver: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("--out", str(tmp_path / "out")) == 2
    assert "tensorrt: expected it to be installed, got " in (said := refusal(capsys))
    assert said.endswith("; run this in the container, which carries it\n")
    assert not (tmp_path / "out").exists()


def test_gpus_of_two_kinds_are_refused(
    tensorrt: RecordingTensorRT, driver: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_nvidia_smi(driver, "echo 8.9; echo 9.0")
    assert build() == 2
    assert "expected GPUs of one compute capability, got 8.9, 9.0; let the container see" in refusal(capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--timing-cache", "x"], "--timing-cache: expected --target tensorrt with it, got --target onnx"),
        (["--layers", "x"], "--layers: expected --target tensorrt or --target tensorrt-check with it, got"),
        (["--architectures", "SM89", "--target", "tensorrt"], "--architectures: expected --target tensorrt-check with"),
        (
            ["--check", "--target", "tensorrt-check"],
            "--check: expected --target onnx or --target tensorrt with it, got",
        ),
        (
            ["--out", "x", "--target", "tensorrt-check"],
            "--out: expected --target onnx or --target tensorrt with it, got",
        ),
        (["--data", "x", "--target", "tensorrt-check"], "--data: expected --target onnx or --target tensorrt with it"),
        (["--check", "--data", "x"], "--data: expected no --check with it, which builds nothing; leave one out"),
        (["--check", "--timing-cache", "x", "--target", "tensorrt"], "--timing-cache: expected no --check with it,"),
        (["--memory-limit", "0", "--target", "tensorrt"], "--memory-limit: expected at least 1 MiB, got 0"),
    ],
)
def test_options_of_another_target_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", "small", *words]) == 2
    assert said in refusal(capsys)
