"""Checks what a caller gives before anything is sent, so that the words are the caller's own and not a graph's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cleave.builders.names import CANDIDATE, REQUEST, USER, USER_ID
from cleave.clients.errors import InvalidRequestError, shown
from cleave.clients.signature import Axis, ModelSignature, Tensor

Array = NDArray[Any]
Inputs = Mapping[str, ArrayLike] | ArrayLike
UserId = str | bytes | int
"""Names a user across requests; a number is the same user as its decimal digits."""

ROLE_OF_ARGUMENT = {"candidates": CANDIDATE, "history": USER, "request": REQUEST}
"""Arguments of `rank` and the role whose tensors each takes."""

KINDS = {"b": "bool", "i": "integer", "u": "integer", "f": "float"}


def arrays_for_rank(
    signature: ModelSignature, given: Mapping[str, Inputs | None], user_id: UserId | None = None
) -> dict[str, Array]:
    """The arrays of one user by tensor name, from the arguments of `rank`.

    Raises:
        InvalidRequestError: anything that the signature does not allow, or a candidate list that is empty.
    """
    candidate_axis = signature.candidate_axis
    arrays = _arrays_by_role(signature, given, user_id)
    sizes = sizes_of(signature, arrays)
    if sizes[candidate_axis.name] == 0:
        raise InvalidRequestError(f"{signature.model}: candidates: expected at least 1, got none; skip the call")
    _check_lengths(signature, {name: size for name, size in sizes.items() if name != candidate_axis.name})
    return arrays


def arrays_for_warm(signature: ModelSignature, user_id: UserId, history: Inputs) -> dict[str, Array]:
    """The id and the history of one user by tensor name.

    Raises:
        InvalidRequestError: anything that the signature does not allow.
    """
    arrays = _arrays_by_role(signature, {"history": history}, user_id)
    _check_lengths(signature, sizes_of(signature, arrays))
    return arrays


def array_from_user_id(signature: ModelSignature, user_id: UserId) -> Array:
    """The id as the server takes it: bytes, [].

    Raises:
        InvalidRequestError: the model knows no user ids, or this is none.
    """
    if signature.summary_cache is None:
        raise InvalidRequestError(
            f"{signature.model}: user_id: expected none, as this model keeps no summaries, got {shown(user_id)}; "
            "send the history alone, or ask the ensemble that is called like the ranker"
        )
    content = _bytes_from_id(f"{signature.model}: {USER_ID}", user_id)
    if not content:
        raise InvalidRequestError(f"{signature.model}: {USER_ID}: expected an id, got an empty one; send None for none")
    return np.array(content, object)


def _bytes_from_id(where: str, user_id: object) -> bytes:
    if isinstance(user_id, bytes):
        return bytes(user_id)  # not numpy's, which is no bytes to tritonclient
    if isinstance(user_id, str | int | np.integer) and not isinstance(user_id, bool):
        try:
            return str(user_id).encode()
        except UnicodeEncodeError as error:
            got = f"one of {len(str(user_id))} characters that has no UTF-8 ({error.reason})"
            raise InvalidRequestError(f"{where}: expected text, got {got}; send bytes instead") from error
        except ValueError as error:  # Python writes no number of thousands of digits
            raise InvalidRequestError(f"{where}: expected an id, got a huge number; send bytes instead") from error
    raise InvalidRequestError(f"{where}: expected a string, bytes or a whole number, got {shown(user_id)}; correct it")


def _arrays_by_role(
    signature: ModelSignature, given: Mapping[str, Inputs | None], user_id: UserId | None
) -> dict[str, Array]:
    arrays = {} if user_id is None else {USER_ID: array_from_user_id(signature, user_id)}
    for argument, inputs in given.items():
        if user_id is not None and argument == "history" and inputs is None:
            continue  # the server knows the user
        tensors = signature.inputs_of(ROLE_OF_ARGUMENT[argument])
        where = f"{signature.model}: {argument}"
        named = _by_name(where, tensors, inputs)
        _check_names(where, signature, tensors, named)
        _check_complete(where, tensors, named)
        arrays |= {name: array_from_value(f"{where}: {name}", tensors[name], named[name]) for name in tensors}
    return arrays


def arrays_for_infer(signature: ModelSignature, given: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """The arrays of a batch by tensor name: [batch, ...] each, every axis within its bounds.

    Raises:
        InvalidRequestError: anything that the signature does not allow.
    """
    where = signature.model
    _check_names(where, signature, signature.inputs, given)
    _check_complete(where, {name: tensor for name, tensor in signature.inputs.items() if not tensor.optional}, given)
    arrays = {
        name: array_from_value(f"{where}: {name}", tensor, given[name], batched=True)
        for name, tensor in signature.inputs.items()
        if name in given
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
        array = np.asarray(value, object if tensor.dtype.hasobject else None)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"{where}: this is no array ({error}); give rows of equal length") from error
    if tensor.dtype.hasobject:
        array = np.array([_bytes_from_id(where, each) for each in array.reshape(-1)], object).reshape(array.shape)
        _check_shape(where, tensor, array, batched)
        return array
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


def sizes_of(signature: ModelSignature, arrays: Mapping[str, Array], batched: bool = False) -> dict[str, int]:
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


def _check_lengths(signature: ModelSignature, sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        axis = _axes(signature)[name]
        if size > axis.max:
            raise InvalidRequestError(
                f"{signature.model}: axis {name}: expected at most {axis.max}, got {size}; "
                f"cut it to {axis.max} (a history: to its most recent events)"
            )
        if size < axis.min_real:
            raise InvalidRequestError(
                f"{signature.model}: axis {name}: expected at least {axis.min_real}, got {size}, for which the model "
                "has no scores; rank such a user in another way"
            )


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
    where: str, signature: ModelSignature, tensors: Mapping[str, Tensor], given: Mapping[str, ArrayLike]
) -> None:
    for name in given:
        if name not in tensors:
            role = signature.inputs[name].role if name in signature.inputs else None
            belongs = [argument for argument, its_role in ROLE_OF_ARGUMENT.items() if its_role == role]
            remedy = f"give it in {belongs[0]}" if belongs else "remove it or correct its name"
            raise InvalidRequestError(f"{where}: unknown tensor {name!r}, expected {_list(tensors)}; {remedy}")


def _check_complete(where: str, tensors: Mapping[str, Tensor], given: Mapping[str, ArrayLike]) -> None:
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


def _axes(signature: ModelSignature) -> dict[str, Axis]:
    tensors = signature.inputs.values()
    return {axis.name: axis for tensor in tensors for axis in tensor.axes if isinstance(axis, Axis)}


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
