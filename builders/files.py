"""Writes files whole or not at all, and reads back the records in them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from cleave.builders.errors import BuilderError

Record = TypeVar("Record")
"""A dataclass of what JSON has."""


def write_text(file: Path, text: str) -> None:
    """Replace the file's text in one step; its folder is made if it is not there."""
    _staged(file, lambda written: written.write_text(text))


def write_bytes(file: Path, content: bytes) -> None:
    """As `write_text`."""
    _staged(file, lambda written: written.write_bytes(content))


def _staged(file: Path, write: Callable[[Path], object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_name(f".{file.name}.{os.getpid()}")
    write(written)
    written.replace(file)


def sha256_of(file: Path) -> str:
    """The digest of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_records(file: Path, records: Iterable[Any]) -> None:
    """Write dataclasses as a JSON list, for `read_records`."""
    write_text(file, json.dumps([dataclasses.asdict(record) for record in records], indent=1) + "\n")


def read_records(file: Path, kind: type[Record], what: str, remedy: str) -> list[Record]:
    """The records in the order they were written; none where there is no file.

    Raises:
        BuilderError: the file holds something else than `what`; `remedy` says what to do.
    """
    if not file.exists():
        return []
    try:
        return [kind(**entry) for entry in json.loads(file.read_text())]
    except (ValueError, TypeError) as error:
        raise BuilderError(f"{file}: expected {what}, got {error}; {remedy}") from error
