"""perf_analyzer, Triton's own measuring client: finds one that works here, runs it, and reads its output."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cleave.perf.analyzer.output import AnalyzerOutput, read_output
from cleave.perf.analyzer.wheel import fetched_analyzer
from cleave.perf.errors import PerfError

NAME = "perf_analyzer"
PLACEHOLDER = "0.1.0"
"""Version of the wheel `perf-analyzer` that pip installs where glibc is too old for a real one; it holds no program."""

CSV_FILE, EXPORT_FILE = "measured.csv", "requests.json"
TIMEOUT_S = 3600


@dataclass(frozen=True)
class Analyzer:
    """A perf_analyzer that runs on this machine."""

    binary: Path
    version: str
    libraries: Path | None = None
    """A folder of shared libraries that the loader does not know."""

    def environment(self) -> dict[str, str]:
        """The environment variables that it runs with."""
        return _environment(self.libraries)


@dataclass(frozen=True)
class AnalyzerRun:
    """The arguments of one run of perf_analyzer, which sends to one model.

    Args:
        model: the served model.
        version: its version, and that of the models that it calls.
        url: the server's gRPC address.
        data: the JSON file of inputs; each is sent once, `batch` of them in a request.
        num_requests: the number of requests to send.
        batch: rows of a request.
        concurrency: the number of requests under way at a time; None with `intervals`.
        intervals: a file of the microseconds to wait before each request.
        composing: models that the model, or a step of it, calls by itself.
    """

    model: str
    version: str
    url: str
    data: Path
    num_requests: int
    batch: int = 1
    concurrency: int | None = 1
    intervals: Path | None = None
    composing: Sequence[str] = ()

    def flags(self) -> list[str]:
        """The command line after the program's name; the program writes its outputs to the folder that it runs in."""
        # Without the version, perf_analyzer takes the one whose counts have grown, and fails if Triton, which counts a
        # request after it has answered it, has not counted any yet.
        flags = ["-m", self.model, "-x", self.version, "-i", "grpc", "-u", self.url, "--input-data", str(self.data)]
        flags += ["--request-count", str(self.num_requests), "-b", str(self.batch)]
        if self.intervals is not None:
            flags += ["--request-intervals", str(self.intervals)]
        else:
            flags += ["--concurrency-range", str(self.concurrency)]
        if self.intervals is not None or self.concurrency != 1:
            # More than one thread would not take the inputs in order, and would send some of them twice.
            flags += ["--async", "--max-threads", "1"]
        if self.composing:
            # So does a model that is not called at all, as the history encoder on hits alone.
            named = ",".join(f"{model}:{self.version}" for model in self.composing)
            flags += ["--bls-composing-models", named]
        return [*flags, "--verbose-csv", "-f", CSV_FILE, "--profile-export-file", EXPORT_FILE]


def find_analyzer() -> Analyzer:
    """The perf_analyzer on PATH or beside this Python, else the one of an older wheel, which pip downloads.

    Raises:
        PerfError: none of them runs; with the reason for each.
    """
    reasons = list(_placeholder())
    for binary in dict.fromkeys(filter(None, (shutil.which(NAME), str(Path(sys.executable).parent / NAME)))):
        if Path(binary).is_file():
            version, reason = _version(Path(binary), None)
            if version:
                return Analyzer(Path(binary), version)
            reasons.append(f"{binary}: {reason}")
    try:
        fetched, libraries = fetched_analyzer()
    except PerfError as error:
        raise PerfError("; ".join([*reasons, str(error)])) from error
    version, reason = _version(fetched, libraries)
    if not version:
        raise PerfError("; ".join([*reasons, f"{fetched}: {reason}; put a perf_analyzer on PATH"]))
    return Analyzer(fetched, version, libraries)


def _placeholder() -> Iterator[str]:
    try:
        version = importlib.metadata.version("perf-analyzer")
    except importlib.metadata.PackageNotFoundError:
        return
    if version == PLACEHOLDER:
        yield (
            f"perf-analyzer {version}: expected a wheel with a program, got the empty one that pip takes where glibc "
            "is older than 2.38; uninstall it"
        )


def _version(binary: Path, libraries: Path | None) -> tuple[str | None, str]:
    """The version that the program prints; or None, and the reason why it does not run."""
    try:
        done = subprocess.run(
            [binary, "--version"], env=_environment(libraries), capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"expected a program that runs, got: {error}"
    text = done.stdout + done.stderr
    match = re.search(r"Perf Analyzer Version (\S+)", text)
    lines = text.strip().splitlines() or ["nothing"]
    return (match[1] if match else None), f"expected its version, got: {lines[-1]}"


def _environment(libraries: Path | None) -> dict[str, str]:
    variables = dict(os.environ)
    if libraries is not None:
        paths = [str(libraries), variables.get("LD_LIBRARY_PATH", "")]
        variables["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
    return variables


def run_analyzer(analyzer: Analyzer, run: AnalyzerRun, folder: Path) -> AnalyzerOutput:
    """Run perf_analyzer; all outputs are written to `folder`, which must be empty.

    perf_analyzer names the files of composing models `<model>_v<version>.<file>`, which a path in the file's name
    breaks: so it runs inside the folder.

    Raises:
        PerfError: it failed, or its outputs are not those of the run.
    """
    data, intervals = run.data.absolute(), run.intervals and run.intervals.absolute()
    command = [str(analyzer.binary), *replace(run, data=data, intervals=intervals).flags()]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=analyzer.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PerfError(f"{NAME}: {run.model}: expected an end in {TIMEOUT_S} s, got none; send less") from error
    if done.returncode:
        raise PerfError(f"{NAME}: {run.model}: expected exit code 0, got {done.returncode}: {_complaint(done)}")
    output = read_output(folder / CSV_FILE, folder / EXPORT_FILE)
    if len(output.requests) != run.num_requests:
        raise PerfError(
            f"{NAME}: {run.model}: expected {run.num_requests} requests, got {len(output.requests)}; run it again"
        )
    return output


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The lines that name the error, without the page of usage that may follow."""
    text = f"{done.stdout}\n{done.stderr}".partition("Usage:")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[-4:]) or "no message"
