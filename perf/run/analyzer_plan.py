"""Measures an arm on Triton: sets the cache, lets perf_analyzer send, and checks that both sides counted the same."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from cleave.builders.names import HIT
from cleave.clients import RankerClient
from cleave.clients.validation import Inputs, UserId
from cleave.perf.analyzer.output import AnalyzerOutput
from cleave.perf.analyzer.run import Analyzer, AnalyzerRun, run_analyzer
from cleave.perf.arms import DEADLINE_S, ArmClient, Array, RankRequest
from cleave.perf.errors import PerfError
from cleave.perf.run.arm_plan import ArmPlan, Measurement, ServedModel
from cleave.perf.run.counters import NOBODY_ELSE, Counters, Served
from cleave.perf.run.stages import latencies_ms, stages_ms
from cleave.perf.workload.traffic import Messages, Traffic

HIT_RATE_TOLERANCE = 0.01
WARMED_AT_ONCE = 16
"""The number of histories in one call that makes summaries ahead."""


@dataclass(frozen=True)
class AnalyzerPlan(ArmPlan):
    """An arm that Triton serves and perf_analyzer measures.

    Args:
        ranker: the name of the ranker.
        counters: the counters of the server.
        analyzer: the perf_analyzer that sends.
        messages: the messages of the traffic.
        run: the arguments of perf_analyzer.
        candidates_sent: the number of candidates in all messages; fewer than the requests have where only a part is
            measured. The latency of a request is then the measured one times their quotient.
        arrivals_us: when each message is due, in microseconds after the one before it; empty for a closed loop.
    """

    ranker: str
    counters: Counters
    analyzer: Analyzer
    messages: Messages
    run: AnalyzerRun
    candidates_sent: int
    arrivals_us: tuple[int, ...] = ()

    @property
    def batch(self) -> int:
        return self.messages.batch

    @property
    def scale(self) -> float:
        return self.traffic.num_candidates / self.candidates_sent

    @property
    def command(self) -> tuple[str, ...]:
        return ("perf_analyzer", *self.run.flags())

    @property
    def model(self) -> str:
        """The served model that is asked."""
        return self.arm.model(self.ranker)

    def scores(self, request: RankRequest) -> list[Array]:
        with ArmClient(self.counters.url, self.ranker, self.arm) as client:
            found = [client.scores(request) for _ in range(1 + self.arm.keeps_summaries)]
            if self.arm.keeps_summaries:
                client.client.forget(request.user_id, deadline=DEADLINE_S)
        return found

    def measure(self) -> Measurement:
        """
        Raises:
            PerfError: perf_analyzer fails, server and client count differently, or the hit rate is not the workload's.
        """
        keeps = self.arm.keeps_summaries
        lookups = self.counters.counting_lookups(self.ranker, self.messages.count) if keeps else nullcontext()
        if keeps:
            set_summaries(self.counters.url, self.model, self.traffic)
        before = self.counters.served()
        with tempfile.TemporaryDirectory(prefix="cleave-perf-") as folder, lookups as counted:
            output = run_analyzer(self.analyzer, self.run, Path(folder))
        hit_rate = None if counted is None else _checked_hit_rate(counted, self.traffic.hit_rate)
        served = self.counters.served_since(before, self.model, self.messages.count)
        self._check_counts(served[self.model])
        num_requests = len(self.traffic.requests)
        latencies = latencies_ms(output.requests, self.messages.of_request, self.arrivals_us)
        stages = stages_ms(output, self.model, keeps, served, num_requests)
        return Measurement(
            arm=self.arm.name,
            requests=num_requests,
            messages=len(output.requests),
            candidates=self.candidates_sent,
            seconds=(max(sent.answered_ns for sent in output.requests) - output.requests[0].sent_ns) / 1e9,
            latencies_ms=[latency * self.scale for latency in latencies],
            hit_rate=hit_rate,
            stages_ms={stage: ms * self.scale for stage, ms in stages.items()},
            server=_served_models(output, self.model, served),
        )

    def _check_counts(self, served: Served) -> None:
        messages, rows = self.messages.count, self.messages.count * self.messages.batch
        if (served.requests, served.rows) != (messages, rows):
            raise PerfError(
                f"{self.model}: expected {messages} requests with {rows} rows by the server's count, got "
                f"{served.requests} with {served.rows}; {NOBODY_ELSE}"
            )


def set_summaries(url: str, model: str, traffic: Traffic) -> None:
    """Keep the summaries of the known users, and none of the new ones."""
    with RankerClient(url, model) as client:
        for user_id in traffic.new_users:
            client.forget(user_id, deadline=DEADLINE_S)
        users = list(traffic.known_users.items())
        for first in range(0, len(users), WARMED_AT_ONCE):
            some = users[first : first + WARMED_AT_ONCE]
            histories: dict[UserId, Inputs] = {user_id: request.history for user_id, request in some}
            client.warm_all(histories, deadline=DEADLINE_S)


def _checked_hit_rate(lookups: Counter[str], expected: float) -> float:
    """The share of lookups that found a summary."""
    hit_rate = lookups[HIT] / lookups.total()
    if abs(hit_rate - expected) > HIT_RATE_TOLERANCE:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(lookups.items()))
        raise PerfError(
            f"hit rate: expected {expected:.1%} as in the workload, got {hit_rate:.1%} by the metrics port "
            f"({reasons}); "
            "see that the store is large enough for all users and that nobody else uses the server"
        )
    return hit_rate


def _served_models(output: AnalyzerOutput, model: str, served: Mapping[str, Served]) -> dict[str, ServedModel]:
    return {
        name: ServedModel(served[name].requests, served[name].rows, **stages._asdict())
        for name, stages in {model: output.model, **output.composing}.items()
    }
