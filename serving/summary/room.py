"""How large an embedded store must be to keep anything: one summary of the longest history, written and kept."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from google.protobuf import json_format

from cleave.builders.names import CONFIG_FILE
from cleave.serving.errors import ServingError
from cleave.serving.model_config import signature_from_config
from cleave.serving.server.config_file import read_config
from cleave.serving.summary.summary_format import SummaryFormat

OWN_BYTES = 2 << 20
"""What an empty Valkey takes, with a connection for each thread of a summary cache."""

COPIES = 3
"""Of a summary while it is written: as it was received, as it is kept, and the one that it replaces."""

_UNITS = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


def bytes_from_size(size: str) -> int:
    """The bytes of a size such as `512mb`, which Valkey's config takes as well."""
    number, unit = (size[:-2], size[-2:].lower()) if size[-2:].lower() in _UNITS else (size, "")
    return int(number) * _UNITS.get(unit, 1)


def check_room(size: str, repository: Path, caches: Iterable[str]) -> None:
    """Refuse a size at which every summary of a long history would be refused by the store.

    Args:
        size: memory of the store, as `512mb`.
        caches: the summary caches that will use it.

    Raises:
        ServingError: the size is too small; names the least that is of use.
    """
    for cache in caches:
        summary_bytes = largest_summary_bytes(repository, cache)
        least = OWN_BYTES + COPIES * summary_bytes
        if bytes_from_size(size) < least:
            raise ServingError(
                f"--store-size: expected at least {math.ceil(least / _UNITS['mb'])}mb, as a summary of {cache} takes "
                f"up to {summary_bytes:,} bytes, got {size}; give it room for many, or name a store with --store"
            )


def largest_summary_bytes(repository: Path, cache: str) -> int:
    """The bytes of one user's summary at the largest sizes; an axis that only summaries have counts as one row."""
    config = json_format.MessageToDict(read_config(repository / cache, CONFIG_FILE), preserving_proto_field_name=True)
    signature = signature_from_config(config)

    def rows(axis: str | int) -> int:
        if isinstance(axis, int):
            return axis
        return signature.axes[axis].max if axis in signature.axes else 1

    return sum(
        tensor.dtype.itemsize * math.prod(map(rows, signature.outputs[name].axes))
        for name, tensor in SummaryFormat.from_config(config).tensors.items()
    )
