"""Computes where the time of a user's request goes, from the times of messages and of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cleave.builders.names import SUMMARY_CACHE
from cleave.perf.analyzer.output import AnalyzerOutput, Sent
from cleave.perf.run.counters import Served

STAGES = ("client", "network", "queue", "input", "compute", "output", "cache", "ensemble")
"""The stages in the order of a request. `cache` is all that a server with summaries does besides running models;
`ensemble` is the same of a server without them."""

NS_PER_MS = 1e6


def latencies_ms(
    sent: Sequence[Sent], messages_of_requests: Sequence[int], arrivals_us: Sequence[int] = ()
) -> list[float]:
    """The latency of each user's request, from its first message to its last answer.

    Args:
        sent: the times of every message.
        messages_of_requests: the number of messages of each request.
        arrivals_us: when each message was due, in microseconds after the one before it. Latencies then count from
            there: whoever waits to send also waits.
    """
    if arrivals_us:
        due, start = [], sent[0].sent_ns - arrivals_us[0] * 1000
        for wait in arrivals_us:
            start += wait * 1000
            due.append(start)
        sent = [Sent(min(at, each.sent_ns), each.answered_ns) for at, each in zip(due, sent, strict=True)]
    latencies, first = [], 0
    for count in messages_of_requests:
        group = sent[first : first + count]
        latencies.append((max(each.answered_ns for each in group) - group[0].sent_ns) / NS_PER_MS)
        first += count
    return latencies


def stages_ms(
    output: AnalyzerOutput, model: str, keeps_summaries: bool, served: Mapping[str, Served], num_requests: int
) -> dict[str, float]:
    """Where the time of a user's request goes, on the mean, by stage; the sum over its messages where it has several.

    Args:
        model: the served model that was asked.
        served: what each model of the server did, by its own count.
        num_requests: requests of users.
    """
    messages = len(output.requests)
    latency_us = sum(sent.answered_ns - sent.sent_ns for sent in output.requests) / 1e3
    client_us = (output.model.client_send_us + output.model.client_recv_us) * messages
    server_us = served[model].total_ns / 1e3
    parts = {name: part for name, part in output.composing.items() if not name.endswith(SUMMARY_CACHE)}
    runs = [(part, served[name].requests) for name, part in parts.items()] or [(output.model, messages)]
    total_us = {
        "client": client_us,
        "network": latency_us - client_us - server_us,
        **{
            stage: sum(getattr(part, f"{stage}_us") * count for part, count in runs)
            for stage in ("queue", "input", "compute", "output")
        },
        "cache" if keeps_summaries else "ensemble": server_us - sum(part.server_us * count for part, count in runs),
    }
    return {stage: max(0.0, total_us[stage]) / num_requests / 1e3 for stage in STAGES if stage in total_us}
