"""One ONNX model as a Triton backend runs it: the requests of a batch joined, run once, and split again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cleave.builders.contract.manifest import check_artifact, read_manifest
from cleave.builders.contract.origin import remedy_for
from cleave.builders.names import ONNX_FILE, VERSION_FOLDER
from cleave.serving.arrays import Arrays
from cleave.serving.checked_files import is_checked
from cleave.serving.errors import InputError, ModelError, RequestFailedError, ServingError
from cleave.serving.model_config import Config
from cleave.serving.onnx.explain_failure import GraphInputs
from cleave.serving.onnx.input_rules import InputRules
from cleave.serving.onnx.session import open_session, run_options


@dataclass(frozen=True)
class OnnxRequest:
    """Tensors by name, each `[batch of this request, ...]`, and the names of the outputs that are asked for."""

    inputs: Arrays
    outputs: Sequence[str]


OnnxAnswer = Arrays | ServingError
"""The outputs of one request, or why it has none."""


class OnnxModel:
    """A model of the repository, checked against its manifest and its config.

    Args:
        folder: the model's folder, `<repository>/<model>`.
        config: the model's config as Triton gives it to a backend.
        version: the version Triton loads.

    Raises:
        ManifestError: the artifact is missing, altered or foreign.
        ModelError: the artifact does not fit the config.
    """

    def __init__(self, folder: Path, config: Config, version: str = VERSION_FOLDER) -> None:
        self.name: str = config["name"]
        self._file = _artifact(folder, config, version)
        self._session = open_session(self._file, config)
        self._run_options = run_options(config)
        self._rules = InputRules.from_config(config)

    def run(self, requests: Sequence[OnnxRequest]) -> list[OnnxAnswer]:
        """Answer every request; one that cannot be answered does not keep the others from it."""
        answers: list[OnnxAnswer | None] = [self._refusal(request) for request in requests]
        joined = iter(self._run([request for request, answer in zip(requests, answers, strict=True) if answer is None]))
        return [next(joined) if answer is None else answer for answer in answers]

    def _refusal(self, request: OnnxRequest) -> OnnxAnswer | None:
        try:
            self._rules.check(request.inputs)
        except InputError as error:
            return InputError(f"model {self.name!r}: {error}")
        return None

    def _run(self, requests: Sequence[OnnxRequest]) -> list[OnnxAnswer]:
        if not requests:
            return []
        try:
            return list(self._run_joined(requests))
        except Exception as error:  # whatever a graph does, the server goes on and the client is told
            if len(requests) == 1:
                return [self._failure(error, requests[0])]
            return [answer for request in requests for answer in self._run([request])]

    def _run_joined(self, requests: Sequence[OnnxRequest]) -> list[Arrays]:
        names = list(dict.fromkeys(name for request in requests for name in request.outputs))
        outputs = self._session.run(names, _joined([request.inputs for request in requests]), self._run_options)
        ends = np.cumsum([_rows(request) for request in requests]).tolist()
        for name, output in zip(names, outputs, strict=True):
            if output.ndim == 0 or output.shape[0] != ends[-1]:
                raise RequestFailedError(
                    f"output {name!r}: expected {ends[-1]} rows as the inputs have, got shape {list(output.shape)}; "
                    "give the graph's output a batch axis"
                )
        by_name = dict(zip(names, outputs, strict=True))
        return [
            {name: by_name[name][start:end] for name in request.outputs}
            for request, start, end in zip(requests, [0, *ends], ends, strict=False)
        ]

    def _failure(self, error: Exception, request: OnnxRequest) -> ServingError:
        explained = self._graph_inputs.explain(str(error), request.inputs)
        if explained is not None:
            return InputError(f"model {self.name!r}: {explained}")
        return RequestFailedError(
            f"model {self.name!r}: the run failed ({' '.join(str(error).split())}); see the server's log"
        )

    @cached_property
    def _graph_inputs(self) -> GraphInputs:
        return GraphInputs(self._file)


def _artifact(folder: Path, config: Config, version: str) -> Path:
    manifest = read_manifest(folder)
    wanted = config.get("default_model_filename") or ONNX_FILE
    got = Path(version, wanted)
    if manifest.artifact is None or got != Path(VERSION_FOLDER, manifest.artifact):
        raise ModelError(
            f"model {config['name']!r}: expected {VERSION_FOLDER}/{manifest.artifact} as its manifest describes, got "
            f"{got} from config and version; {remedy_for(folder)}"
        )
    if not is_checked(folder / got):
        check_artifact(folder, manifest)
    return folder / got


def _joined(inputs: Sequence[Arrays]) -> Arrays:
    """The batch; a single request is passed on as it is, without a copy."""
    if len(inputs) == 1:
        return dict(inputs[0])
    return {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]}


def _rows(request: OnnxRequest) -> int:
    return len(next(iter(request.inputs.values())))
