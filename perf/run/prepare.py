"""Before anything is measured at a point: what each arm sends, whether all arms agree, and a warm-up of every shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cleave.builders.files import write_text
from cleave.builders.names import HISTORY_ENCODER, model_name
from cleave.builders.predict.arms import LITSERVE, Arm
from cleave.perf.analyzer.run import Analyzer, AnalyzerRun
from cleave.perf.arms import ArmClient, RankRequest
from cleave.perf.run.analyzer_plan import AnalyzerPlan
from cleave.perf.run.arm_plan import ArmPlan
from cleave.perf.run.counters import Counters
from cleave.perf.run.litserve import LitServePlan, LitServeServer
from cleave.perf.run.parity import Parity
from cleave.perf.run.subject import Subject
from cleave.perf.workload.traffic import USER_PREFIX, Traffic, arrivals_us, draw_traffic, write_messages
from cleave.perf.workload.workload import Point, Workload

PARITY_USER = f"{USER_PREFIX}-parity"


@dataclass(frozen=True)
class Servers:
    """What answers the arms of one model: Triton, through perf_analyzer, and LitServe where a workload asks for it."""

    analyzer: Analyzer
    counters: Counters
    litserve: LitServeServer | None = None


def plans_of_point(
    workload: Workload, point: Point, subject: Subject, arms: Sequence[Arm], servers: Servers, stem: Path
) -> list[ArmPlan]:
    """What each arm sends at a point; the files of its messages are written, with names that begin with `stem`."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    plans: list[ArmPlan] = []
    for arm in arms:
        traffic = draw_traffic(workload, point, subject.cut.ranker, workload.requests_of(arm.name))
        if arm.name == LITSERVE:
            assert servers.litserve is not None, "a workload with this arm starts its server"
            plans.append(LitServePlan(arm, traffic, servers.litserve, point.load.concurrency or 1))
        else:
            file = stem.with_name(f"{stem.name}-{arm.name}.json")
            plans.append(_analyzer_plan(workload, point, subject.ranker_name, arm, traffic, servers, file))
    return plans


def _analyzer_plan(
    workload: Workload, point: Point, ranker: str, arm: Arm, traffic: Traffic, servers: Servers, file: Path
) -> AnalyzerPlan:
    sent = [_measured_part(workload, arm, request) for request in traffic.requests]
    with ArmClient(servers.counters.url, ranker, arm) as client:
        signature = client.signature
        messages = write_messages(arm, signature, sent, file)
    run = AnalyzerRun(
        model=arm.model(ranker),
        version=signature.version,
        url=servers.counters.url,
        data=messages.file,
        num_requests=messages.count,
        batch=messages.batch,
        concurrency=point.load.concurrency,
        composing=(model_name(ranker, HISTORY_ENCODER),) if arm.keeps_summaries else (),
    )
    waits: list[int] = []
    if point.load.rate_per_s is not None:
        waits = arrivals_us(workload, point.load.rate_per_s, messages)
        intervals = file.with_suffix(".intervals")
        write_text(intervals, "".join(f"{wait}\n" for wait in waits))
        run = dataclasses.replace(run, intervals=intervals)
    return AnalyzerPlan(
        arm,
        traffic,
        ranker,
        servers.counters,
        servers.analyzer,
        messages,
        run,
        candidates_sent=sum(request.num_candidates for request in sent),
        arrivals_us=tuple(waits),
    )


def _measured_part(workload: Workload, arm: Arm, request: RankRequest) -> RankRequest:
    if not arm.row_per_candidate or workload.measured_candidates is None:
        return request
    return request.first_candidates(workload.measured_candidates)


def check_parity(plans: Sequence[ArmPlan], tolerance: float) -> dict[str, float]:
    """The largest difference of each arm's scores from those of the arms before it, for one request of the point.

    Raises:
        ScoresDifferError: two arms give different scores.
    """
    parity, differences = Parity(tolerance), {}
    whole = dataclasses.replace(plans[0].traffic.requests[0], user_id=PARITY_USER)
    for plan in plans:
        request = whole.first_candidates(int(whole.num_candidates / plan.scale))
        differences[plan.arm.name] = max(parity.check(plan.arm.name, scores) for scores in plan.scores(request))
    return differences


def warm_up(plans: Sequence[ArmPlan], point: Point) -> None:
    """Send every shape once by every arm: the first run of a shape allocates memory.

    Requests that meet are served in batches, whose sizes the server should have seen as well: where requests can meet,
    each arm is measured once, and the measurement is thrown away.
    """
    for plan in plans:
        seen = {_shapes(plan.traffic.requests[0])}  # the check of parity sent these
        for request in plan.traffic.requests:
            if _shapes(request) not in seen:
                seen.add(_shapes(request))
                plan.scores(request.first_candidates(plan.batch) if plan.arm.row_per_candidate else request)
    if point.load.concurrency != 1:
        for plan in plans:
            plan.measure()


def _shapes(request: RankRequest) -> tuple[object, ...]:
    """What decides about the padded shapes, roughly: sizes that need equally many bits."""
    arrays = [*request.history.values(), *request.candidates.values()]
    return tuple(int(np.ceil(np.log2(max(1, len(array))))) if array.ndim else 0 for array in arrays)
