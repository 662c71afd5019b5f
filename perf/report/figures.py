"""Makes a report of what was measured: medians over the rounds, percentiles over all requests, what FLOPs predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

import numpy as np

from cleave.builders.predict.arms import BASELINE
from cleave.builders.predict.processors import Processor
from cleave.perf.machine.environment import HostDescription
from cleave.perf.report.report import ArmReport, HostReport, Limits, ModelReport, PointReport, RunReport, Setting
from cleave.perf.report.verdicts import verdicts
from cleave.perf.run.arm_plan import ArmPlan, Measurement
from cleave.perf.run.rounds import ModelMeasurements, PointMeasurements
from cleave.perf.run.subject import Expected
from cleave.perf.workload.workload import Workload


@dataclass(frozen=True)
class RunConditions:
    """What a run was made with; load averages of the machine are those before and after it."""

    command: str
    started: datetime
    host: HostDescription
    processor: Processor
    load_average: tuple[float, float]
    versions: Mapping[str, str]


def run_report(workload: Workload, models: Sequence[ModelMeasurements], conditions: RunConditions) -> RunReport:
    """The report of a run that ends now."""
    reports = {model.subject.name: model_report(model, conditions.processor) for model in models}
    on_processor = not all(model.engines for model in models)
    return RunReport(
        command=conditions.command,
        workload={"name": workload.name, **workload.content},
        started=conditions.started.isoformat(timespec="seconds"),
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=HostReport(
            **asdict(conditions.host),
            load_average=conditions.load_average,
            limits=limits_from_processor(conditions.processor) if on_processor else None,
        ),
        versions=conditions.versions,
        models=reports,
        thresholds=tuple(verdicts(workload.thresholds, reports)),
    )


def limits_from_processor(processor: Processor) -> Limits:
    return Limits(
        matrix_flops_per_s=processor.matrix_flops_per_s[processor.precision],
        vector_flops_per_s=processor.vector_flops_per_s,
        memory_bytes_per_s=processor.memory_bytes_per_s,
        launch_us=processor.launch_us,
    )


def model_report(model: ModelMeasurements, processor: Processor) -> ModelReport:
    """The report of one model on this processor."""
    subject = model.subject
    return ModelReport(
        name=subject.name,
        size=subject.size,
        fingerprint=subject.fingerprint,
        current=subject.current,
        engines=model.engines,
        points=tuple(_point_report(point, model, processor) for point in model.points),
    )


def _point_report(measured: PointMeasurements, model: ModelMeasurements, processor: Processor) -> PointReport:
    expected = {
        plan.arm.name: model.subject.expected(plan.arm.name, plan.traffic, processor) for plan in measured.plans
    }
    point = measured.point
    at = Setting(
        history=point.history.typical(),
        candidates=point.candidates.typical(),
        histories=str(point.history),
        candidate_lists=str(point.candidates),
        cached_share=point.cached_share,
        concurrency=point.load.concurrency,
        rate_per_s=point.load.rate_per_s,
    )
    arms = {plan.arm.name: _arm_report(plan, measured, expected, model.engines) for plan in measured.plans}
    return PointReport(at=at, arms=arms)


def _arm_report(
    plan: ArmPlan, measured: PointMeasurements, expected: Mapping[str, Expected], engines: bool
) -> ArmReport:
    name = plan.arm.name
    measurements = [arms[name] for arms in measured.rounds]
    rates = [measurement.candidates_per_s for measurement in measurements]
    ratios = [
        arms[name].candidates_per_s / arms[BASELINE].candidates_per_s for arms in measured.rounds if BASELINE in arms
    ]
    latencies = np.concatenate([measurement.latencies_ms for measurement in measurements])
    hit_rates = [measurement.hit_rate for measurement in measurements if measurement.hit_rate is not None]
    of_arm, of_baseline = expected[name], expected.get(BASELINE)
    return ArmReport(
        candidates_per_s=float(np.median(rates)),
        candidates_per_s_of_rounds=tuple(rates),
        noise=_noise(rates),
        p50_ms=float(np.percentile(latencies, 50)),
        p99_ms=float(np.percentile(latencies, 99)),
        hit_rate=float(np.mean(hit_rates)) if hit_rates else None,
        expected_hit_rate=plan.traffic.hit_rate if hit_rates else None,
        requests=sum(measurement.requests for measurement in measurements),
        messages=sum(measurement.messages for measurement in measurements),
        batch=plan.batch,
        in_proportion=plan.scale if plan.scale > 1 else None,
        ratio=float(np.median(ratios)) if ratios else None,
        ratio_of_rounds=tuple(ratios),
        ratio_noise=_noise(ratios) if ratios else None,
        flops=of_arm.flops,
        # Engines run on a GPU, which the limits of the processor do not bound.
        predicted_ms=None if engines else of_arm.roofline_ms,
        limit_ms=None if engines else of_arm.limit_ms,
        stages_ms=_median_stages(measurements),
        stolen=float(np.median([measurement.stolen for measurement in measurements])),
        server=measurements[-1].server,
        score_difference=measured.differences.get(name),
        command=plan.command,
        predicted_ratio=of_baseline.flops / of_arm.flops if of_baseline and of_arm.flops else None,
    )


def _median_stages(measurements: Sequence[Measurement]) -> dict[str, float]:
    stages = measurements[0].stages_ms
    return {stage: float(np.median([measurement.stages_ms[stage] for measurement in measurements])) for stage in stages}


def _noise(values: Sequence[float]) -> float | None:
    """Half the distance between the largest and the smallest value, as a share of the median; None of one value."""
    return (max(values) - min(values)) / 2 / float(np.median(values)) if len(values) > 1 else None
