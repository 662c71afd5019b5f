"""From a request to the users whose summaries it needs, and from their summaries to its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cleave.builders.names import SUMMARY_STATUS, USER_ID, Status
from cleave.serving.arrays import Array, Arrays
from cleave.serving.errors import InputError
from cleave.serving.summary.caller import PATIENT, Caller
from cleave.serving.summary.keys import Keys, shown
from cleave.serving.summary.summary_format import SummaryFormat
from cleave.serving.summary.user_inputs import UserInputs

MAX_USER_ID_BYTES = 512


@dataclass(frozen=True, eq=False)
class Lookup:
    """One user of a request: the id, the user inputs, or both.

    `inputs` are [axes...], padded, without the batch axis, and `digest` is `UserInputs.digest` of them. The summary is
    kept under `key`.
    """

    key: bytes
    user_id: bytes
    inputs: Arrays | None = None
    digest: bytes | None = None
    caller: Caller = PATIENT

    @property
    def user(self) -> str:
        """The user as errors say it."""
        return shown(self.user_id)

    @property
    def by(self) -> str:
        """What the user was named by, as the metrics say it."""
        return "id" if self.inputs is None else "inputs"


@dataclass(frozen=True, eq=False)
class Summary:
    """What the scorer needs of one user; tensors have no batch axis."""

    tensors: Arrays
    status: Status
    age_s: float


def lookups_from_inputs(inputs: Arrays, user_inputs: UserInputs, keys: Keys, caller: Caller = PATIENT) -> list[Lookup]:
    """The users of one request from its tensors, [batch, ...] each; an empty user id is none.

    Raises:
        InputError: neither a user id nor user inputs, not all user inputs, or fewer rows than the model takes.
    """
    names = user_inputs.names
    missing = [name for name in names if name not in inputs]
    if missing and len(missing) < len(names):
        raise InputError(
            f"input {missing[0]!r}: expected all of {', '.join(names)} or none of them, got none of this one; "
            "send it as well"
        )
    ids = user_ids_from_inputs(inputs)
    if missing and not (ids and all(ids)):
        raise InputError(
            f"input {USER_ID!r}: expected a user id or the user inputs ({', '.join(names)}), got neither; "
            "send one of them"
        )
    if missing:
        return [Lookup(keys.of_user(user_id), user_id, caller=caller) for user_id in ids]
    user_inputs.check_axes(inputs, len(ids) or len(inputs[names[0]]))
    return [
        _lookup(user_id, {name: inputs[name][row] for name in names}, user_inputs, keys, caller)
        for row, user_id in enumerate(ids or [b""] * len(inputs[names[0]]))
    ]


def user_ids_from_inputs(inputs: Arrays) -> list[bytes]:
    """The user id of each row, [] where the request has none.

    Raises:
        InputError: one is too long.
    """
    ids = [bytes(value) for value in inputs[USER_ID].reshape(-1)] if USER_ID in inputs else []
    for user_id in ids:
        if len(user_id) > MAX_USER_ID_BYTES:
            raise InputError(
                f"input {USER_ID!r}: expected at most {MAX_USER_ID_BYTES} bytes, got {len(user_id)}; send a shorter id"
            )
    return ids


def flag_from_parameters(parameters: Mapping[str, object], name: str) -> bool:
    """A parameter of a request that is true or false; one that is not there is false.

    Raises:
        InputError: it is something else, of which nobody knows what was meant.
    """
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InputError(
            f"parameter {name!r}: expected true or false, got {value!r}; send a bool parameter, or leave it out"
        )
    return value


def _lookup(user_id: bytes, inputs: Arrays, user_inputs: UserInputs, keys: Keys, caller: Caller) -> Lookup:
    user_inputs.check_real_rows(inputs)
    digest = user_inputs.digest(inputs)
    key = keys.of_user(user_id) if user_id else keys.of_digest(digest)
    return Lookup(key, user_id, inputs, digest, caller)


def outputs_from_summaries(summaries: Sequence[Summary], summary_format: SummaryFormat) -> dict[str, Array]:
    """The tensors of an answer, [batch, ...] each; a batch of one is not copied."""

    def joined(name: str) -> Array:
        rows = [summary.tensors[name] for summary in summaries]
        return rows[0][np.newaxis] if len(rows) == 1 else np.stack(rows)

    status = np.array([[summary.status.encode()] for summary in summaries], object)
    return {name: joined(name) for name in summary_format.tensors} | {SUMMARY_STATUS: status}
