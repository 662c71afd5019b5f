"""From what was measured to `report.json`: every figure of a run, with what it was made on, by and with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from cleave.builders.predict.arms import BASELINE
from cleave.perf.run.turn import Plan, Turn
from cleave.perf.workload.thresholds import verdicts
from cleave.perf.workload.workload import Point, Workload

if TYPE_CHECKING:
    from cleave.builders.predict.processors import Processor
    from cleave.perf.run.subject import Expected, Subject

FORMAT = 1

Report = dict[str, Any]
Rounds = Mapping[tuple[int, int], Mapping[str, Turn] | None]
"""Turns by arm, by place of the point and number of the round."""


def report_of_run(
    workload: Workload,
    models: Mapping[str, Any],
    *,
    command: str,
    started: datetime,
    machine: Mapping[str, Any],
    limits: Processor,
    load_average: tuple[float, float],
    versions: Mapping[str, str],
) -> Report:
    """The report of a run from those of its models."""
    of_processor = not all(model["engines"] for model in models.values())
    return {
        "format": FORMAT,
        "command": command,
        "workload": {"name": workload.name, **workload.content},
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            **machine,
            "load_average": list(load_average),
            "limits": limits_dict(limits) if of_processor else None,
        },
        "versions": dict(versions),
        "models": dict(models),
        "thresholds": [asdict(verdict) for verdict in verdicts(workload.thresholds, models)],
    }


def limits_dict(limits: Processor) -> dict[str, float]:
    """What bounds the machine."""
    return {
        "matrix_flops_per_s": limits.matrix_flops_per_s[limits.precision],
        "vector_flops_per_s": limits.vector_flops_per_s,
        "memory_bytes_per_s": limits.memory_bytes_per_s,
        "launch_us": limits.launch_us,
    }


def model_report(
    subject: Subject,
    machine: Processor,
    points: Sequence[Point],
    plans: Mapping[int, Sequence[Plan]],
    rounds: Rounds,
    differences: Mapping[int, Mapping[str, float]],
    engines: bool,
) -> Report:
    """What is reported of one model; its `arms` are those of the last point.

    Args:
        engines: it is served as engines, of whose GPU the limits of the processor say nothing.
    """
    reported = [
        _point_report(
            subject,
            machine,
            point,
            plans[place],
            [turns for (at, _), turns in sorted(rounds.items()) if at == place and turns is not None],
            differences.get(place, {}),
        )
        for place, point in enumerate(points)
    ]
    if engines:
        for arm in (arm for point in reported for arm in point["arms"].values()):
            arm["predicted_ms"] = arm["limit_ms"] = None
    return {
        "name": subject.name,
        "size": subject.size,
        "fingerprint": subject.fingerprint,
        "current": subject.current,
        "engines": engines,
        "at": reported[-1]["at"],
        "arms": reported[-1]["arms"],
        "points": reported,
    }


def _point_report(
    subject: Subject,
    machine: Processor,
    point: Point,
    plans: Sequence[Plan],
    rounds: Sequence[Mapping[str, Turn]],
    differences: Mapping[str, float],
) -> Report:
    arms = {
        plan.arm.name: arm_report(plan, rounds, subject.expected(plan.arm.name, plan.traffic, machine), differences)
        for plan in plans
    }
    baseline = arms.get(BASELINE)
    for arm in arms.values():
        arm["predicted_ratio"] = baseline["flops"] / arm["flops"] if baseline and arm["flops"] else None
    return {
        "at": {
            "history": point.history.typical(),
            "candidates": point.candidates.typical(),
            "histories": str(point.history),
            "candidate_lists": str(point.candidates),
            "cached_share": point.cached_share,
            "concurrency": point.load.concurrency,
            "rate_per_s": point.load.rate_per_s,
        },
        "arms": arms,
    }


def arm_report(
    plan: Plan, rounds: Sequence[Mapping[str, Turn]], expected: Expected, differences: Mapping[str, float]
) -> Report:
    """The figures of an arm at a point; rates and ratios are medians over the rounds, latencies are of all requests.

    `ratio` is the arm's candidates a second over the baseline's in the same round; `noise` is half the distance
    between the fastest and the slowest round, as a share of the median.
    """
    turns = [round_[plan.arm.name] for round_ in rounds]
    rates = [turn.candidates_per_s for turn in turns]
    ratios = [
        turn.candidates_per_s / round_[BASELINE].candidates_per_s
        for turn, round_ in zip(turns, rounds, strict=True)
        if BASELINE in round_
    ]
    latencies = np.concatenate([turn.latencies_ms for turn in turns])
    hit_rates = [turn.hit_rate for turn in turns if turn.hit_rate is not None]
    stages = {stage: float(np.median([turn.stages_ms[stage] for turn in turns])) for stage in turns[0].stages_ms}
    return {
        "candidates_per_s": float(np.median(rates)),
        "candidates_per_s_of_rounds": rates,
        "noise": _noise(rates),
        "p50_ms": float(np.percentile(latencies, 50)),
        "p99_ms": float(np.percentile(latencies, 99)),
        "hit_rate": float(np.mean(hit_rates)) if hit_rates else None,
        "expected_hit_rate": plan.traffic.hit_rate if hit_rates else None,
        "requests": sum(turn.requests for turn in turns),
        "messages": sum(turn.messages for turn in turns),
        "batch": plan.messages.batch,
        "in_proportion": plan.scale if plan.scale > 1 else None,
        "ratio": float(np.median(ratios)) if ratios else None,
        "ratio_of_rounds": ratios,
        "ratio_noise": _noise(ratios) if ratios else None,
        "flops": expected.flops,
        "predicted_ms": expected.roofline_ms,
        "limit_ms": expected.limit_ms,
        "stages_ms": stages,
        "stolen": float(np.median([turn.stolen for turn in turns])),
        "server": turns[-1].server,
        "score_difference": differences.get(plan.arm.name),
        "command": ["perf_analyzer", *plan.order.flags()] if plan.order else None,
    }


def _noise(values: Sequence[float]) -> float | None:
    """None where one round alone tells nothing of it."""
    return (max(values) - min(values)) / 2 / float(np.median(values)) if len(values) > 1 else None
