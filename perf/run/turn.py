"""One turn of one arm: the cache in a known state, perf_analyzer sends, and what both sides counted must agree."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cleave.builders.names import SUMMARY_CACHE
from cleave.builders.predict.arms import Arm
from cleave.clients import RankerClient
from cleave.clients.validation import Inputs, UserId
from cleave.perf.analyzer.output import Measured, Sent
from cleave.perf.analyzer.run import Analyzer, Order, run_analyzer
from cleave.perf.arms import DEADLINE_S
from cleave.perf.errors import PerfError
from cleave.perf.run.counters import ALONE, Counters, Served
from cleave.perf.workload.traffic import Messages, Traffic

HIT = "hit"
HIT_RATE_TOLERANCE = 0.01
WARMED_AT_ONCE = 16
NS_PER_MS = 1e6

STAGES = ("client", "network", "queue", "input", "compute", "output", "cache", "ensemble")
"""Where the time of a request goes. `cache` is all that a server with summaries does besides running models;
`ensemble` the same of a server without them."""


@dataclass(frozen=True)
class Plan:
    """What an arm sends in every turn at a point.

    `candidates` is how many of each request's candidates are sent and `of` how many it has: the latency of a request
    is the measured one times their quotient.
    """

    arm: Arm
    traffic: Traffic
    messages: Messages
    order: Order | None
    """None for an arm that is not asked through perf_analyzer."""
    candidates: int
    of: int
    arrivals_us: tuple[int, ...] = ()
    """Of each message, microseconds after the one before it; empty for a closed loop."""

    @property
    def scale(self) -> float:
        return self.of / self.candidates


@dataclass(frozen=True)
class Turn:
    """What came of one turn; times in milliseconds, those of a request on the mean of the turn."""

    arm: str
    requests: int
    messages: int
    candidates: int
    seconds: float
    latencies_ms: list[float]
    hit_rate: float | None
    stages_ms: dict[str, float]
    server: dict[str, dict[str, float]] = field(default_factory=dict)
    """Requests and rows that each model served, and its mean microseconds in each stage."""
    stolen: float = 0.0
    """The share of the processor time asked for that the machine's host gave to others."""

    @property
    def candidates_per_s(self) -> float:
        return self.candidates / self.seconds


def run_turn(analyzer: Analyzer, plan: Plan, ranker: str, counters: Counters) -> Turn:
    """Run one turn.

    Raises:
        PerfError: perf_analyzer fails, server and client count differently, or the hit rate is not the workload's.
    """
    assert plan.order is not None
    keeps = plan.arm.keeps_summaries
    if keeps:
        _set_summaries(counters.url, plan.arm.model(ranker), plan.traffic)
    with tempfile.TemporaryDirectory(prefix="cleave-perf-") as folder:
        before = counters.served()
        if keeps:
            with counters.counting_lookups(ranker, plan.messages.count) as lookups:
                measured = run_analyzer(analyzer, plan.order, Path(folder))
        else:
            measured = run_analyzer(analyzer, plan.order, Path(folder))
        served = counters.served_since(before, plan.arm.model(ranker), plan.messages.count)
    _check_counts(plan, ranker, served)
    hit_rate = lookups[HIT] / lookups.total() if keeps else None
    if hit_rate is not None:
        _check_hit_rate(hit_rate, plan.traffic.hit_rate, lookups)
    requests = measured.requests
    return Turn(
        arm=plan.arm.name,
        requests=len(plan.traffic.requests),
        messages=len(requests),
        candidates=plan.candidates,
        seconds=(max(sent.answered_ns for sent in requests) - requests[0].sent_ns) / 1e9,
        latencies_ms=[latency * plan.scale for latency in latencies_ms(requests, plan)],
        hit_rate=hit_rate,
        stages_ms=stages_ms(measured, plan, ranker, served),
        server=_server(measured, plan.arm.model(ranker), served),
    )


def _set_summaries(url: str, model: str, traffic: Traffic) -> None:
    """Keep the summaries of the known users, and none of the new ones."""
    with RankerClient(url, model) as client:
        for user_id in traffic.new_users:
            client.forget(user_id, deadline=DEADLINE_S)
        users = list(traffic.known_users.items())
        for first in range(0, len(users), WARMED_AT_ONCE):
            some = users[first : first + WARMED_AT_ONCE]
            histories: dict[UserId, Inputs] = {user_id: request.history for user_id, request in some}
            client.warm_all(histories, deadline=DEADLINE_S)


def latencies_ms(requests: Sequence[Sent], plan: Plan) -> list[float]:
    """The latency of each user's request, from its first message to its last answer.

    With given arrivals it counts from the time at which the message was due: whoever waits to send also waits.
    """
    if plan.arrivals_us:
        due, start = [], requests[0].sent_ns - plan.arrivals_us[0] * 1000
        for wait in plan.arrivals_us:
            start += wait * 1000
            due.append(start)
        requests = [Sent(min(at, sent.sent_ns), sent.answered_ns) for at, sent in zip(due, requests, strict=True)]
    latencies, first = [], 0
    for count in plan.messages.of_request:
        group = requests[first : first + count]
        latencies.append((max(sent.answered_ns for sent in group) - group[0].sent_ns) / NS_PER_MS)
        first += count
    return latencies


def stages_ms(measured: Measured, plan: Plan, ranker: str, served: Mapping[str, Served]) -> dict[str, float]:
    """Where the time of a user's request goes, on the mean; the sum over its messages where it has several."""
    messages = plan.messages.count
    model = plan.arm.model(ranker)
    latency_us = sum(sent.answered_ns - sent.sent_ns for sent in measured.requests) / 1e3
    client_us = (measured.model.client_send_us + measured.model.client_recv_us) * messages
    server_us = served[model].total_ns / 1e3
    parts = {name: part for name, part in measured.composing.items() if not name.endswith(SUMMARY_CACHE)}
    runs = [(part, served[name].requests) for name, part in parts.items()] or [(measured.model, messages)]
    total_us = {
        "client": client_us,
        "network": latency_us - client_us - server_us,
        **{
            stage: sum(getattr(part, f"{stage}_us") * count for part, count in runs)
            for stage in ("queue", "input", "compute", "output")
        },
    }
    rest = "cache" if plan.arm.keeps_summaries else "ensemble"
    total_us[rest] = server_us - sum(part.server_us * count for part, count in runs)
    per_request = plan.scale / len(plan.traffic.requests) / 1e3
    return {stage: max(0.0, total_us[stage]) * per_request for stage in STAGES if stage in total_us}


def _server(measured: Measured, model: str, served: Mapping[str, Served]) -> dict[str, dict[str, float]]:
    return {
        name: {"requests": served[name].requests, "rows": served[name].rows, **stages._asdict()}
        for name, stages in {model: measured.model, **measured.composing}.items()
    }


def _check_counts(plan: Plan, ranker: str, served: Mapping[str, Served]) -> None:
    model = plan.arm.model(ranker)
    expected = (plan.messages.count, plan.messages.count * plan.messages.batch)
    got = served[model].requests, served[model].rows
    if got != expected:
        raise PerfError(
            f"{model}: expected {expected[0]} requests with {expected[1]} rows by the server's count, got {got[0]} "
            f"with {got[1]}; {ALONE}"
        )


def _check_hit_rate(got: float, expected: float, lookups: Mapping[str, Any]) -> None:
    if abs(got - expected) > HIT_RATE_TOLERANCE:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(lookups.items()))
        raise PerfError(
            f"hit rate: expected {expected:.1%} as in the workload, got {got:.1%} by the metrics port ({reasons}); see "
            "that the store is large enough for all users and that nobody else uses the server"
        )
