"""Triton's side of `cleave.serving.summary.cache`: unpacks requests, hands them over, packs answers."""

from __future__ import annotations

import functools
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from cleave import DISTRIBUTION
from cleave.builders.contract.build_version import build_of_version
from cleave.builders.contract.errors import ContractError
from cleave.builders.names import QUEUE_FULL
from cleave.serving.arrays import Arrays
from cleave.serving.errors import (
    InputError,
    OverloadError,
    RequestFailedError,
    ServingError,
    StoppingError,
)
from cleave.serving.gate import PART_OF_ANOTHER, Gate
from cleave.serving.server.served_folder import built_version
from cleave.serving.summary.cache import CacheAnswer, CacheRequest, SummaryCache
from cleave.serving.summary.caller import Caller
from cleave.serving.summary.metrics import INFO, METRICS, LabelValues, Samples, Sums
from cleave.serving.summary.settings import CacheSettings

MICROSECONDS = 1e6
"""In a second: the unit of a request's timeout."""


class TritonPythonModel:
    """One instance; `execute` returns at once, and each request is answered through its own sender."""

    def initialize(self, args: dict[str, str]) -> None:
        try:
            built = built_version(Path(args["model_repository"]), args["model_version"])
            self.settings = CacheSettings.from_config(built.parent, json.loads(args["model_config"]))
            self.gate = Gate.of_server(self.settings.name)
            build = build_of_version(args["model_version"]) or ""
            self.metrics = TritonMetrics(self.settings.name, (build, version(DISTRIBUTION), self.settings.engine))
            self.cache = SummaryCache(self.settings, self.encode, self.metrics.publish, pb_utils.Logger.log_warn)
        except (ContractError, ServingError) as error:
            raise pb_utils.TritonModelException(str(error)) from None

    def execute(self, requests: list[Any]) -> None:
        given = [self.request(request) for request in requests]
        self.cache.submit([request for request in given if self.is_let_in(request)])

    def finalize(self) -> None:
        self.cache.close()

    def request(self, request: Any) -> CacheRequest:
        self.gate.enter()
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        sender = request.get_response_sender()
        reply = functools.partial(self.reply, sender, request.requested_output_names())
        caller = Caller(request.timeout() / MICROSECONDS or None, sender.is_cancelled)
        return CacheRequest(inputs, reply, json.loads(request.parameters()), caller)

    def is_let_in(self, request: CacheRequest) -> bool:
        """Whether the gate is open for it; else it is answered."""
        try:
            self.gate.let_in()
        except StoppingError as error:
            request.reply(error)
            return False
        return True

    def reply(self, sender: Any, names: list[str], answer: CacheAnswer) -> None:
        if isinstance(answer, ServingError):
            code = getattr(pb_utils.TritonError, answer.status)
            error = pb_utils.TritonError(f"model {self.settings.name!r}: {answer}", code)
            response = pb_utils.InferenceResponse(error=error)
        else:
            response = pb_utils.InferenceResponse([pb_utils.Tensor(n, answer[n]) for n in names if n in answer])
        try:
            sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        finally:
            self.gate.leave()

    async def encode(self, inputs: Arrays) -> Arrays:
        request = pb_utils.InferenceRequest(
            model_name=self.settings.encoder,
            requested_output_names=list(self.settings.summary_format.tensors),
            inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
            # An encoder on a GPU would hand its outputs over in GPU memory, which numpy cannot read.
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
            parameters={PART_OF_ANOTHER: True},
        )
        response = await request.async_exec()
        if response.has_error():
            raise self.failure(response.error().message())
        return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}

    def failure(self, message: str) -> ServingError:
        """The encoder's refusal; Triton 2.51 tells a calling model its words and not its status."""
        if QUEUE_FULL in message:
            return OverloadError(message)
        ours = message.startswith(f"model {self.settings.encoder!r}: input ")
        return InputError(message) if ours else RequestFailedError(message)


class TritonMetrics:
    """Puts what was recorded on Triton's metrics port, with the name of the model.

    Args:
        info: the labels of `INFO`.
    """

    def __init__(self, model: str, info: LabelValues) -> None:
        self.model = model
        kinds = pb_utils.MetricFamily
        self.families = {
            metric: kinds(metric.name, metric.help, getattr(kinds, metric.kind.upper())) for metric in METRICS
        }
        self.children: dict[Any, Any] = {}
        for metric in METRICS:
            for labels in metric.series:
                self.child(metric, labels)
        self.child(INFO, info).set(1)

    def publish(self, sums: Sums, samples: Samples) -> None:
        for key, amount in sums.items():
            self.child(*key).increment(amount)
        for key, values in samples.items():
            for value in values:
                self.child(*key).observe(value)

    def child(self, metric: Any, labels: tuple[str, ...]) -> Any:
        if (metric, labels) not in self.children:
            given: dict[str, Any] = {"labels": {"model": self.model, **dict(zip(metric.labels, labels, strict=True))}}
            if metric.buckets:
                given["buckets"] = list(metric.buckets)
            self.children[metric, labels] = self.families[metric].Metric(**given)
        return self.children[metric, labels]
