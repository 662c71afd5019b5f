"""Triton's side of `cleave.serving.onnx.model`: unpacks requests, calls it, packs the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from cleave.builders.contract.errors import ContractError
from cleave.serving.errors import ServingError, StoppingError
from cleave.serving.gate import PART_OF_ANOTHER, Gate
from cleave.serving.onnx.model import OnnxAnswer, OnnxModel, OnnxRequest
from cleave.serving.onnx.session import yield_cpu
from cleave.serving.server.served_folder import built_version


class TritonPythonModel:
    """One instance of a model; Triton calls `execute` with one batch at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        try:
            config = json.loads(args["model_config"])
            yield_cpu(config)  # before there is a session, whose threads do the work
            built = built_version(Path(args["model_repository"]), args["model_version"])
            self.model = OnnxModel(built.parent, config, built.name)
            self.gate = Gate.of_server(config["name"])
        except (ContractError, ServingError) as error:
            raise pb_utils.TritonModelException(str(error)) from None

    def execute(self, requests: list[Any]) -> list[Any]:
        with self.gate.under_way():
            refusals = (
                [self.refusal(request) for request in requests] if self.gate.is_closed else [None] * len(requests)
            )
            taken = [request for request, refusal in zip(requests, refusals, strict=True) if refusal is None]
            answers = iter(self.model.run([_request(request) for request in taken]))
            return [_response(next(answers) if refusal is None else refusal) for refusal in refusals]

    def refusal(self, request: Any) -> StoppingError | None:
        """Why a closed gate keeps a request out."""
        if not json.loads(request.parameters()).get(PART_OF_ANOTHER):
            try:
                self.gate.let_in()
            except StoppingError as error:
                return error
        return None


def _request(request: Any) -> OnnxRequest:
    inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    return OnnxRequest(inputs, sorted(request.requested_output_names()))


def _response(answer: OnnxAnswer) -> Any:
    if isinstance(answer, ServingError):
        code = getattr(pb_utils.TritonError, answer.status)
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer), code))
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.items()])
