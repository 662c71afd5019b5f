"""Turns one user's arrays into requests of bucket sizes, and the answers back into one row per candidate given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cleave.builders.names import CANDIDATE, HIT, LEFT, SUMMARY_STATUS
from cleave.clients.errors import ServerError
from cleave.clients.signature import Axis, ModelSignature, Tensor
from cleave.clients.validation import Array, UserId, sizes_of


def padded(tensor: Tensor, array: Array) -> Array:
    """`array` of one user enlarged with the pad value until every axis is a bucket."""
    sizes = zip(tensor.axes, array.shape, strict=True)
    shape = tuple(axis.bucket(size) if isinstance(axis, Axis) else size for axis, size in sizes)
    if shape == array.shape:
        return array
    larger = np.full(shape, tensor.pad, tensor.dtype)
    larger[_real_rows(tensor, shape, array.shape)] = array
    return larger


def _real_rows(tensor: Tensor, shape: Sequence[int], real: Sequence[int]) -> tuple[slice, ...]:
    """Where the rows of a user, of shape `real`, stand in a padded array of `shape`."""
    return tuple(
        slice(size - count, size) if isinstance(axis, Axis) and axis.padding_side == LEFT else slice(count)
        for axis, size, count in zip(tensor.axes, shape, real, strict=True)
    )


def slices(signature: ModelSignature, sizes: Mapping[str, int], micro_batch: int | None = None) -> list[slice]:
    """The candidates of each request: as many as the axis and the micro-batch allow, then the rest."""
    axis = signature.candidate_axis
    most = min(axis.max, micro_batch or axis.max)
    return [slice(start, min(start + most, sizes[axis.name])) for start in range(0, sizes[axis.name], most)]


def padded_batch(signature: ModelSignature, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of one user as a batch of one, padded."""
    return {name: padded(signature.inputs[name], array)[np.newaxis] for name, array in arrays.items()}


def batches_from_users(
    signature: ModelSignature, users: Mapping[UserId, Mapping[str, Array]]
) -> list[tuple[list[UserId], dict[str, Array]]]:
    """Users of equal padded shapes together, as many as a request takes: their ids and their arrays, [batch, ...]."""
    alike: dict[object, list[tuple[UserId, dict[str, Array]]]] = {}
    for user_id, arrays in users.items():
        batch = padded_batch(signature, arrays)
        alike.setdefault(tuple(array.shape for array in batch.values()), []).append((user_id, batch))
    size = signature.max_batch_size
    groups = [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]
    return [
        (
            [user_id for user_id, _ in group],
            {name: np.concatenate([batch[name] for _, batch in group]) for name in group[0][1]},
        )
        for group in groups
    ]


def requests_from_arrays(
    signature: ModelSignature, arrays: Mapping[str, Array], parts: Sequence[slice]
) -> list[dict[str, Array]]:
    """Requests of batch 1 with these parts of the candidates; the user is in each of them."""
    candidate = signature.inputs_of(CANDIDATE)
    rest = padded_batch(signature, {name: array for name, array in arrays.items() if name not in candidate})
    return [
        rest | {name: padded(tensor, arrays[name][part])[np.newaxis] for name, tensor in candidate.items()}
        for part in parts
    ]


def arrays_from_answer(
    where: str, signature: ModelSignature, request: Mapping[str, Array], answer: Mapping[str, Array | None]
) -> dict[str, Array]:
    """The outputs asked for, [batch, ...] in the shapes that follow from the request.

    Raises:
        ServerError: an output is missing or has another shape or type.
    """
    sizes = sizes_of(signature, request, batched=True)
    batch = len(next(iter(request.values())))
    arrays = {}
    for name, array in answer.items():
        tensor = signature.outputs[name]
        shape = tuple(sizes.get(axis.name, -1) if isinstance(axis, Axis) else axis for axis in tensor.axes)
        got = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
        try:
            if array is None or array.dtype != tensor.dtype or array.ndim != len(shape or (1,)) + 1:
                raise ValueError
            arrays[name] = array.reshape(batch, *shape)
        except ValueError:
            raise ServerError(
                f"{where}: output {name}: expected {tensor.dtype} {[batch, *shape]}, got {got}; "
                "the served model is not what it says, build it again"
            ) from None
    return arrays


def outputs_from_answers(
    signature: ModelSignature, sizes: dict[str, int], answers: Sequence[Mapping[str, Array]], parts: Sequence[slice]
) -> dict[str, Array]:
    """The rows of the candidates given, without padding: [num_candidates, ...] by output name.

    `sizes` is the size of every axis as the caller gave it, `parts` the candidates of each answer.
    """
    axis = signature.candidate_axis

    def rows(tensor: Tensor, answer: Mapping[str, Array], part: slice) -> Array:
        real = sizes | {axis.name: part.stop - part.start}
        padded_rows: Array = answer[tensor.name][0]
        shape = [real[each.name] if isinstance(each, Axis) else each for each in tensor.axes]
        kept: Array = padded_rows[_real_rows(tensor, padded_rows.shape, shape)]
        return kept

    return {
        name: np.concatenate([rows(tensor, answer, part) for answer, part in zip(answers, parts, strict=True)])
        for name, tensor in signature.candidate_outputs.items()
    }


def status_from_answers(answers: Sequence[Mapping[str, Array]]) -> str | None:
    """How the summary of one user was obtained: of several requests, the first that had to encode it says so."""
    statuses = [answer[SUMMARY_STATUS].item().decode() for answer in answers if SUMMARY_STATUS in answer]
    return next((status for status in statuses if status != HIT), HIT if statuses else None)
