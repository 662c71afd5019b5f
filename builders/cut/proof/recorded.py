"""Reads recorded requests, on which a build is proven besides random ones: a line of JSON each, as a client asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cleave.builders.cut.proof.values import Request
from cleave.builders.errors import BuilderError
from cleave.builders.onnx_graph.random_inputs import AnyArray
from cleave.builders.spec import Axis, Ranker
from cleave.clients import signature as of_client
from cleave.clients.errors import InvalidRequestError
from cleave.clients.padding import slices
from cleave.clients.validation import ROLE_OF_ARGUMENT, arrays_for_rank, sizes_of

FORMAT = '{"history": {NAME: VALUES, ...}, "request": {...}, "candidates": {...}}'
"""Of a line: the arguments of `RankerClient.rank`, with the names of the ranker's tensors."""
IGNORED = ("user_id",)
"""May stand in a line, too."""
UNBOUNDED = 2**31 - 1
"""Users in one request of a ranker that is not served yet."""


class ExamplesError(BuilderError):
    """A file of recorded requests that cannot be read, or holds one that no client would send."""


def read_requests(file: Path, ranker: Ranker) -> list[Request]:
    """The requests of a file, in order; a list of more candidates than a request takes becomes several, as of clients.

    Raises:
        ExamplesError: names the file, the line and the tensor.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExamplesError(f"--examples {file}: {error}; give a file of lines like {FORMAT}") from error
    signature = _signature_of(ranker)
    requests = [
        request
        for number, line in enumerate(lines, start=1)
        if line.strip()
        for request in _requests_from_line(f"{file}:{number}", line, signature)
    ]
    if not requests:
        raise ExamplesError(f"--examples {file}: expected at least one request, got none; write lines like {FORMAT}")
    return requests


def _requests_from_line(where: str, line: str, signature: of_client.ModelSignature) -> Iterator[Request]:
    try:
        given = json.loads(line)
    except ValueError as error:
        raise ExamplesError(f"{where}: no JSON ({error}); write lines like {FORMAT}") from error
    if not isinstance(given, dict) or not given.keys() <= {*ROLE_OF_ARGUMENT, *IGNORED}:
        got = ", ".join(given) if isinstance(given, dict) else type(given).__name__
        raise ExamplesError(f"{where}: expected an object of {', '.join(ROLE_OF_ARGUMENT)}, got {got}; write {FORMAT}")
    arguments = {name: _with_floats(signature, role, given.get(name)) for name, role in ROLE_OF_ARGUMENT.items()}
    try:
        arrays = arrays_for_rank(signature, arguments)
    except InvalidRequestError as error:
        raise ExamplesError(f"{where}: {error}") from error
    candidates = signature.inputs_of(ROLE_OF_ARGUMENT["candidates"])
    for part in slices(signature, sizes_of(signature, arrays)):
        chosen: dict[str, AnyArray] = {
            name: array[part] if name in candidates else array for name, array in arrays.items()
        }
        yield Request(where, {name: array[np.newaxis] for name, array in chosen.items()})


def _with_floats(signature: of_client.ModelSignature, role: str, given: Any) -> Any:
    """JSON has one kind of numbers: 1 is a float where the tensor holds floats."""

    def converted(tensor: of_client.Tensor, value: Any) -> Any:
        array = np.asarray(value, None) if tensor.dtype.kind == "f" and isinstance(value, int | list) else None
        return value if array is None or array.dtype.kind not in "iu" else array.astype(tensor.dtype)

    tensors = signature.inputs_of(role)
    if isinstance(given, dict):
        return {name: converted(tensors[name], value) if name in tensors else value for name, value in given.items()}
    return converted(next(iter(tensors.values())), given) if len(tensors) == 1 else given


def _signature_of(ranker: Ranker) -> of_client.ModelSignature:
    """What a client would learn of the ranker once it is served."""
    axes = {
        axis.name: of_client.Axis(
            name=axis.name,
            min=axis.min,
            opt=axis.opt,
            max=axis.max,
            buckets=axis.buckets,
            padding_side=axis.padding_side,
            min_real=axis.min_real,
        )
        for axis in ranker.axes
    }
    tensors = {
        role: {
            tensor.name: of_client.Tensor(
                tensor.name,
                tensor.numpy_dtype,
                tuple(axes[axis.name] if isinstance(axis, Axis) else axis for axis in tensor.axes),
                role,
                tensor.pad,
            )
            for each, tensor in ranker.tensors()
            if each == role
        }
        for role in ("user", "request", "candidate", "output")
    }
    outputs = tensors.pop("output")
    inputs = {name: tensor for each in tensors.values() for name, tensor in each.items()}
    return of_client.ModelSignature(ranker.name, UNBOUNDED, inputs, outputs)
