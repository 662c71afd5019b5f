"""Triton's side of `cleave.serving.onnx.model`: unpacks requests, calls it, packs the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from cleave.builders.contract.errors import ContractError
from cleave.serving.errors import InputError, ServingError
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
        except (ContractError, ServingError) as error:
            raise pb_utils.TritonModelException(str(error)) from None

    def execute(self, requests: list[Any]) -> list[Any]:
        return [_response(answer) for answer in self.model.run([_request(request) for request in requests])]


def _request(request: Any) -> OnnxRequest:
    inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    return OnnxRequest(inputs, sorted(request.requested_output_names()))


def _response(answer: OnnxAnswer) -> Any:
    if isinstance(answer, ServingError):
        code = pb_utils.TritonError.INVALID_ARG if isinstance(answer, InputError) else pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer), code))
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.items()])
