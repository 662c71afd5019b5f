"""Before anything is timed at a point: what each arm will send, that all arms agree, and a warm-up of every shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cleave.builders.names import HISTORY_ENCODER
from cleave.builders.predict.arms import LITSERVE, Arm
from cleave.perf.analyzer.run import Order
from cleave.perf.arms import DEADLINE_S, ArmClient, Request
from cleave.perf.run.litserve import LitServeServer
from cleave.perf.run.parity import Parity
from cleave.perf.run.subject import Subject
from cleave.perf.run.turn import Plan
from cleave.perf.workload.traffic import USER_PREFIX, Messages, arrivals_us, draw_traffic, write_messages
from cleave.perf.workload.workload import Point, Workload

PARITY_USER = f"{USER_PREFIX}-parity"


def plans_of_point(
    workload: Workload, point: Point, subject: Subject, arms: Sequence[Arm], url: str, stem: Path
) -> list[Plan]:
    """What each arm sends at a point; its files' names begin with `stem`."""
    return [_plan(workload, point, subject, arm, url, stem.with_name(f"{stem.name}-{arm.name}")) for arm in arms]


def _plan(workload: Workload, point: Point, subject: Subject, arm: Arm, url: str, stem: Path) -> Plan:
    ranker = subject.cut.ranker
    traffic = draw_traffic(workload, point, ranker, workload.requests_of(arm.name))
    if arm.name == LITSERVE:
        count = sum(request.num_candidates for request in traffic.requests)
        return Plan(arm, traffic, Messages(Path(), 1, (1,) * len(traffic.requests)), None, count, count)
    measured = [_measured_part(workload, arm, request) for request in traffic.requests]
    with ArmClient(url, ranker.name, arm) as client:
        messages = write_messages(arm, client.signature, measured, stem.with_suffix(".json"))
    order = Order(
        model=arm.model(ranker.name),
        url=url,
        data=messages.file,
        num_requests=messages.count,
        batch=messages.batch,
        concurrency=point.load.concurrency,
        composing=(f"{ranker.name}{HISTORY_ENCODER}",) if arm.keeps_summaries else (),
    )
    waits: list[int] = []
    if point.load.rate_per_s is not None:
        waits = arrivals_us(workload, point.load.rate_per_s, messages)
        intervals = stem.with_suffix(".intervals")
        intervals.write_text("".join(f"{wait}\n" for wait in waits))
        order = dataclasses.replace(order, intervals=intervals)
    sent, of = (sum(request.num_candidates for request in requests) for requests in (measured, traffic.requests))
    return Plan(arm, traffic, messages, order, sent, of, tuple(waits))


def _measured_part(workload: Workload, arm: Arm, request: Request) -> Request:
    if not arm.row_per_candidate or workload.measured_candidates is None:
        return request
    return request.first_candidates(workload.measured_candidates)


def check_parity(
    url: str, ranker: str, plans: Sequence[Plan], tolerance: float, litserve: LitServeServer | None = None
) -> dict[str, float]:
    """The largest difference of each arm's scores from those of the arms before, for one request of the point.

    An arm that keeps summaries is asked twice: it encodes, and then finds what it kept.

    Raises:
        ParityError: two arms give different scores.
    """
    parity, differences = Parity(tolerance), {}
    whole = dataclasses.replace(plans[0].traffic.requests[0], user_id=PARITY_USER)
    for plan in plans:
        request = whole.first_candidates(int(whole.num_candidates / plan.scale))
        with _asking(url, ranker, plan, litserve) as client:
            scores = [client.scores(request) for _ in range(1 + plan.arm.keeps_summaries)]
            if isinstance(client, ArmClient) and plan.arm.keeps_summaries:
                client.client.forget(PARITY_USER, deadline=DEADLINE_S)
        differences[plan.arm.name] = max(parity.check(plan.arm.name, each) for each in scores)
    return differences


def warm_up(url: str, ranker: str, plans: Sequence[Plan], litserve: LitServeServer | None = None) -> None:
    """Every shape once by every arm: the first run of a shape allocates memory."""
    for plan in plans:
        seen = {_shapes(plan.traffic.requests[0])}
        with _asking(url, ranker, plan, litserve) as client:
            for request in plan.traffic.requests:
                if _shapes(request) not in seen:
                    seen.add(_shapes(request))
                    enough = request.first_candidates(plan.messages.batch) if plan.arm.row_per_candidate else request
                    client.scores(enough)


@contextmanager
def _asking(url: str, ranker: str, plan: Plan, litserve: LitServeServer | None) -> Iterator[ArmClient | LitServeServer]:
    """What gives the scores of an arm."""
    if plan.order is None:
        assert litserve is not None
        yield litserve
        return
    with ArmClient(url, ranker, plan.arm) as client:
        yield client


def _shapes(request: Request) -> tuple[object, ...]:
    """What decides about the padded shapes, roughly: sizes that need equally many bits."""
    arrays = [*request.history.values(), *request.candidates.values()]
    return tuple(int(np.ceil(np.log2(max(1, len(array))))) if array.ndim else 0 for array in arrays)
