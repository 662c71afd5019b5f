"""Checks what a caller gives before anything is sent, so that the words are the caller's own and not a graph's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clients.errors import InvalidRequestError
from clients.signature import CANDIDATE, REQUEST, USER, Axis, Signature, Tensor

Array = NDArray[Any]
Inputs = Mapping[str, ArrayLike] | ArrayLike

ROLE_OF_ARGUMENT = {"candidates": CANDIDATE, "history": USER, "request": REQUEST}
"""Arguments of `rank` and the role whose tensors each takes."""

KINDS = {"b": "bool", "i": "integer", "u": "integer", "f": "float"}


def arrays_for_rank(signature: Signature, given: Mapping[str, Inputs | None]) -> dict[str, Array]:
    """The arrays of one user by tensor name, from the arguments of `rank`.

    Raises:
        InvalidRequestError: anything that the signature does not allow, or a candidate list that is empty.
    """
    candidate_axis = signature.candidate_axis
    arrays: dict[str, Array] = {}
    for argument, role in ROLE_OF_ARGUMENT.items():
        tensors = signature.inputs_of(role)
        where = f"{signature.model}: {argument}"
        named = _by_name(where, tensors, given[argument])
        _check_names(where, signature, tensors, named)
        arrays |= {name: array_from_value(f"{where}: {name}", tensors[name], named[name]) for name in tensors}
    sizes = sizes_of(signature, arrays)
    if sizes[candidate_axis.name] == 0:
        raise InvalidRequestError(f"{signature.model}: candidates: expected at least 1, got none; skip the call")
    for name, axis in _axes(signature).items():
        if axis != candidate_axis and sizes.get(name, 0) > axis.max:
            raise InvalidRequestError(
                f"{signature.model}: axis {name}: expected at most {axis.max}, got {sizes[name]}; "
                f"cut it to {axis.max} (a history: to its most recent events)"
            )
    return arrays


def arrays_for_infer(signature: Signature, given: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """The arrays of a batch by tensor name: [batch, ...] each, every axis within its bounds.

    Raises:
        InvalidRequestError: anything that the signature does not allow.
    """
    where = signature.model
    _check_names(where, signature, signature.inputs, given)
    arrays = {
        name: array_from_value(f"{where}: {name}", tensor, given[name], batched=True)
        for name, tensor in signature.inputs.items()
    }
    batches = {name: len(array) for name, array in arrays.items()}
    if len(set(batches.values())) > 1:
        raise InvalidRequestError(f"{where}: expected one batch size, got {batches}; give every tensor a row per user")
    batch = next(iter(batches.values()))
    if not 1 <= batch <= signature.max_batch_size:
        raise InvalidRequestError(
            f"{where}: batch: expected 1 to {signature.max_batch_size} rows, got {batch}; send several requests"
        )
    for name, size in sizes_of(signature, arrays, batched=True).items():
        axis = _axes(signature)[name]
        if not axis.min <= size <= axis.max:
            raise InvalidRequestError(
                f"{where}: axis {name}: expected {axis.min} to {axis.max}, got {size}; correct it"
            )
    return arrays


def array_from_value(where: str, tensor: Tensor, value: ArrayLike, batched: bool = False) -> Array:
    """`value` in the tensor's own type: the kind must be the same and every value must fit.

    Raises:
        InvalidRequestError: another kind (a float for an integer and the reverse), a value that does not fit or is not
            finite, another rank or fixed size.
    """
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"{where}: this is no array ({error}); give rows of equal length") from error
    if array.shape == (0,) and not batched and tensor.axes and isinstance(tensor.axes[0], Axis):
        # An empty list means no rows, whatever a row is.
        array = array.reshape([0 if isinstance(axis, Axis) else axis for axis in tensor.axes])
    # It has no type of its own either; numpy calls it float.
    if array.size and KINDS.get(array.dtype.kind) != KINDS[tensor.dtype.kind]:
        raise InvalidRequestError(f"{where}: type: expected {tensor.dtype}, got {array.dtype}; convert it")
    _check_shape(where, tensor, array, batched)
    if array.dtype != tensor.dtype:
        array = _converted(where, tensor, array)
    if tensor.dtype.kind == "f" and not np.isfinite(array).all():
        place = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
        raise InvalidRequestError(
            f"{where}: expected finite {tensor.dtype} numbers, got {array[place]} at {list(place)}; correct it"
        )
    return array


def _converted(where: str, tensor: Tensor, array: Array) -> Array:
    if tensor.dtype.kind in "iu" and array.size:
        bounds, least, most = np.iinfo(tensor.dtype), int(array.min()), int(array.max())
        if least < bounds.min or most > bounds.max:
            raise InvalidRequestError(
                f"{where}: expected values from {bounds.min} to {bounds.max} ({tensor.dtype}), "
                f"got {least} to {most}; correct the values"
            )
    with np.errstate(over="ignore"):  # what becomes infinite is found by the caller
        return array.astype(tensor.dtype)


def sizes_of(signature: Signature, arrays: Mapping[str, Array], batched: bool = False) -> dict[str, int]:
    """The size of every axis by name.

    Raises:
        InvalidRequestError: two tensors of one axis have different lengths.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, array in arrays.items():
        for place, axis in enumerate(signature.inputs[name].axes, start=int(batched)):
            if not isinstance(axis, Axis):
                continue
            size, other = sizes.setdefault(axis.name, (array.shape[place], name))
            if size != array.shape[place]:
                raise InvalidRequestError(
                    f"{signature.model}: axis {axis.name}: expected one length, got {size} in {other} and "
                    f"{array.shape[place]} in {name}; give every tensor of the axis the same length"
                )
    return {name: size for name, (size, _) in sizes.items()}


def _by_name(where: str, tensors: Mapping[str, Tensor], given: Inputs | None) -> Mapping[str, ArrayLike]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return given
    if len(tensors) != 1:
        raise InvalidRequestError(
            f"{where}: expected a mapping with {_list(tensors)}, got {type(given).__name__}; name each tensor"
        )
    return {next(iter(tensors)): given}


def _check_names(
    where: str, signature: Signature, tensors: Mapping[str, Tensor], given: Mapping[str, ArrayLike]
) -> None:
    for name in given:
        if name not in tensors:
            role = signature.inputs[name].role if name in signature.inputs else None
            belongs = [argument for argument, its_role in ROLE_OF_ARGUMENT.items() if its_role == role]
            remedy = f"give it in {belongs[0]}" if belongs else "remove it or correct its name"
            raise InvalidRequestError(f"{where}: unknown tensor {name!r}, expected {_list(tensors)}; {remedy}")
    missing = [name for name in tensors if name not in given]
    if missing:
        raise InvalidRequestError(f"{where}: expected {_list(tensors)}, got {_list(given)}; add {_list(missing)}")


def _check_shape(where: str, tensor: Tensor, array: Array, batched: bool) -> None:
    shape = array.shape[1:] if batched else array.shape
    fits = array.ndim == len(tensor.axes) + batched and all(
        isinstance(axis, Axis) or axis == size for axis, size in zip(tensor.axes, shape, strict=True)
    )
    if not fits:
        rows = " for each row of the batch" if batched else ""
        raise InvalidRequestError(
            f"{where}: shape: expected {tensor.axis_names}{rows}, got {list(array.shape)}; reshape it"
        )


def _axes(signature: Signature) -> dict[str, Axis]:
    tensors = signature.inputs.values()
    return {axis.name: axis for tensor in tensors for axis in tensor.axes if isinstance(axis, Axis)}


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
