"""What a served model takes and gives, learned from the server: the only place a client knows names and limits from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cleave.builders.contract.build_version import build_of_version
from cleave.builders.contract.records import RecordError
from cleave.builders.contract.signature import ServedAxis, ServedTensor, Signature
from cleave.builders.names import CANDIDATE, REQUEST, SIGNATURE_PARAMETER, SUMMARY_STATUS, USER, USER_ID, VARIABLE
from cleave.clients.errors import InvalidRequestError, SignatureError


@dataclass(frozen=True)
class ServedModel:
    """What a server says of one model: types, dims without the batch axis, and the parameters of its config."""

    max_batch_size: int
    inputs: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
    outputs: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
    parameters: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    """Inputs that may be left out."""
    version: str = ""
    """The version of which all this is said; the empty one stands for the latest."""


@dataclass(frozen=True, kw_only=True)
class Axis(ServedAxis):
    """A dimension that varies from request to request and is padded to the smallest of `buckets` that holds it."""

    name: str


@dataclass(frozen=True)
class Tensor:
    """One input or output; `axes` is the shape of one user, without the batch axis."""

    name: str
    dtype: np.dtype[Any]
    axes: tuple[Axis | int, ...]
    role: str
    pad: int | float = 0
    optional: bool = False

    @property
    def axis_names(self) -> str:
        """`[history, 20]`, for messages."""
        return f"[{', '.join(axis.name if isinstance(axis, Axis) else str(axis) for axis in self.axes)}]"


@dataclass(frozen=True)
class ModelSignature:
    """Everything a client knows of the model called `model`."""

    model: str
    max_batch_size: int
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    summary_cache: str | None = None
    """Name of the model that keeps the summaries this one uses; None where users cannot be named by id."""
    version: str = ""
    """The version that a request asks for, of this model and of its summary cache; the empty one is the latest."""

    @property
    def build(self) -> str | None:
        """What the build of this version is called; None where the server does not say so."""
        return build_of_version(self.version)

    def inputs_of(self, role: str) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.inputs.items() if tensor.role == role}

    @property
    def candidate_axis(self) -> Axis:
        """The axis that counts candidates: the first of every candidate input.

        Raises:
            InvalidRequestError: this model is a part (encoder, scorer) and does not rank.
        """
        others = [
            tensor.name for tensor in self.inputs.values() if tensor.role not in {USER_ID, USER, REQUEST, CANDIDATE}
        ]
        for tensor in self.inputs_of(CANDIDATE).values():
            if not others and tensor.axes and isinstance(tensor.axes[0], Axis):
                return tensor.axes[0]
        raise InvalidRequestError(
            f"{self.model}: rank needs a model from user and candidates to scores, got a part of one with the inputs "
            f"{', '.join(self.inputs)}; name the whole model or an ensemble, or use infer"
        )

    @property
    def candidate_outputs(self) -> dict[str, Tensor]:
        """The outputs with one row per candidate."""
        axis = self.candidate_axis
        return {name: tensor for name, tensor in self.outputs.items() if tensor.axes[:1] == (axis,)}


def signature_from_served(model: str, served: ServedModel) -> ModelSignature:
    """The signature of `model`, checked against Triton's own types and dims.

    Raises:
        SignatureError: the parameter is missing or unreadable, or contradicts the config it stands in.
    """
    if SIGNATURE_PARAMETER not in served.parameters:
        raise SignatureError(
            f"{model}: its config has no parameter {SIGNATURE_PARAMETER!r}, so it was not built by cleave; "
            "build it with `cleave build`, or check the name of the model"
        )
    if served.max_batch_size < 1:
        raise SignatureError(
            f"{model}: max_batch_size: expected at least 1, got {served.max_batch_size}; build it again"
        )
    try:
        published = Signature.from_json(served.parameters[SIGNATURE_PARAMETER])
    except RecordError as error:
        raise SignatureError(
            f"{model}: its parameter {SIGNATURE_PARAMETER!r} cannot be read ({error}); build the model with the "
            "version of cleave that this client is of"
        ) from error
    axes = {name: Axis(**vars(limits), name=name) for name, limits in published.axes.items()}
    return ModelSignature(
        model,
        served.max_batch_size,
        inputs=_tensors(model, published.inputs, served.inputs, axes, served.optional),
        outputs=_tensors(model, published.outputs, served.outputs, axes),
        summary_cache=published.summary_cache,
        version=served.version,
    )


def _tensors(
    model: str,
    published: Mapping[str, ServedTensor],
    served: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    axes: Mapping[str, Axis],
    optional: frozenset[str] = frozenset(),
) -> dict[str, Tensor]:
    if published.keys() != served.keys():
        raise SignatureError(
            f"{model}: expected the tensors of {SIGNATURE_PARAMETER!r} ({', '.join(published)}), "
            f"got those of the config ({', '.join(served)}); build it again"
        )
    tensors = {}
    for name, entry in published.items():
        dtype, dims = served[name]
        unknown = [axis for axis in entry.axes if isinstance(axis, str) and axis not in axes]
        if unknown:
            raise SignatureError(
                f"{model}: tensor {name}: axis {unknown[0]!r}: expected one that it publishes ({', '.join(axes)}); "
                "ask the ranker, NAME_uncached or NAME_whole, whose sizes clients choose, or build it again"
            )
        shape = tuple(axes[axis] if isinstance(axis, str) else axis for axis in entry.axes)
        tensor = Tensor(name, dtype, shape, entry.role, entry.pad, name in optional)
        # One value a user is served as dims [1]: Triton knows no empty dims beside the batch axis.
        expected = tuple(VARIABLE if isinstance(axis, Axis) else axis for axis in tensor.axes) or (1,)
        if dims != expected or (dtype.kind == "O") != (name in (USER_ID, SUMMARY_STATUS)):
            raise SignatureError(
                f"{model}: tensor {name}: expected numbers of dims {list(expected)}, "
                f"got {dtype} of dims {list(dims)} in the config; build it again"
            )
        tensors[name] = tensor
    return tensors
