"""The bytes that the store keeps for one user: a fixed header, then the summary as safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
from xxhash import xxh3_64, xxh3_64_intdigest

from cleave.builders.contract.dtypes import DTYPES
from cleave.builders.names import CORRUPT, FOREIGN, Flaw
from cleave.serving.arrays import Arrays
from cleave.serving.summary.summary_format import SummaryFormat
from cleave.serving.summary.user_inputs import DIGEST_BYTES

FORMAT = 1
_MAGIC = b"CLVS"
_PREFIX = struct.Struct("<4sIQ")
"""Magic, format, and XXH3 of everything behind this prefix."""
_HEADER = struct.Struct(f"<d32s{DIGEST_BYTES}s")
"""Time of encoding (Unix, seconds), build, digest of the user inputs; a multiple of 8 bytes with the prefix."""
_START = _PREFIX.size + _HEADER.size
_LENGTH = struct.Struct("<Q")

_DTYPES = {row.safetensors: np.dtype(row.name).newbyteorder("<") for row in DTYPES.values() if row.in_numpy}
"""numpy's types by the names of safetensors, which are little-endian."""


class UnusableValueError(ValueError):
    """A kept value that must not be used: `corrupt`, or `foreign`, which is of another program, format or build."""

    def __init__(self, flaw: Flaw, what: str) -> None:
        super().__init__(f"kept summary: {what}; it is encoded anew")
        self.flaw: Flaw = flaw


@dataclass(frozen=True, eq=False)
class KeptSummary:
    """One user's summary; tensors have no batch axis."""

    tensors: Arrays
    digest: bytes
    """`UserInputs.digest` of the user inputs that were encoded."""
    encoded_at: float
    """Unix time in seconds."""


def value_from_kept(kept: KeptSummary, build: bytes) -> bytes:
    """The bytes to keep; `build` is 32 bytes that name the weights and graph of the encoder."""
    header, tensors = _HEADER.pack(kept.encoded_at, build, kept.digest), safetensors.numpy.save(dict(kept.tensors))
    checksum = xxh3_64(header)
    checksum.update(tensors)
    return b"".join((_PREFIX.pack(_MAGIC, FORMAT, checksum.intdigest()), header, tensors))


def kept_from_value(value: bytes, build: bytes, summary_format: SummaryFormat) -> KeptSummary:
    """The summary in bytes of the store, whose tensors are views of them.

    Raises:
        UnusableValueError: anything but an unaltered summary of this build and format.
    """
    if not value.startswith(_MAGIC):
        raise UnusableValueError(FOREIGN, "expected the value of a summary, got something else")
    if len(value) < _START:
        raise UnusableValueError(CORRUPT, f"expected at least {_START} bytes, got {len(value)}")
    _, version, checksum = _PREFIX.unpack_from(value)
    if version != FORMAT:
        raise UnusableValueError(FOREIGN, f"expected format {FORMAT}, got {version}")
    if xxh3_64_intdigest(memoryview(value)[_PREFIX.size :]) != checksum:
        raise UnusableValueError(CORRUPT, "expected the checksum that it was written with, got another")
    encoded_at, kept_build, digest = _HEADER.unpack_from(value, _PREFIX.size)
    if kept_build != build:
        raise UnusableValueError(FOREIGN, f"expected build {build.hex()[:12]}, got {kept_build.hex()[:12]}")
    try:
        tensors = _tensors_from_safetensors(value, _START)
    except (AttributeError, KeyError, TypeError, ValueError, struct.error) as error:
        raise UnusableValueError(CORRUPT, f"its tensors cannot be read ({error})") from error
    if not summary_format.fits(tensors):
        raise UnusableValueError(FOREIGN, "expected the tensors of the model's config, got others")
    return KeptSummary(tensors, digest, encoded_at)


def _tensors_from_safetensors(value: bytes, start: int) -> Arrays:
    """The library reads as strictly, but copies every tensor twice."""
    (length,) = _LENGTH.unpack_from(value, start)
    data = start + _LENGTH.size + length
    header: Mapping[str, Any] = json.loads(value[start + _LENGTH.size : data])
    return {name: _tensor(value, data, entry) for name, entry in header.items()}


def _tensor(value: bytes, data: int, entry: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    dtype, (begin, end) = _DTYPES[entry["dtype"]], entry["data_offsets"]
    if not 0 <= begin <= end <= len(value) - data:
        raise ValueError(f"expected offsets inside the value, got {begin} to {end}")
    count = (end - begin) // dtype.itemsize
    return np.frombuffer(value, dtype, count, data + begin).reshape(entry["shape"])
