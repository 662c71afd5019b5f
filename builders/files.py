"""Writes files whole or not at all, and reads back the records in them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from cleave.builders.errors import BuilderError

Record = TypeVar("Record")
"""A dataclass of what JSON has."""


@contextlib.contextmanager
def staged(file: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `file` in one step; if the block fails, `file` stays as it is.

    The folder is made if it is not there.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield written
        written.replace(file)
    finally:
        written.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Replace the file's text in one step; its folder is made if it is not there."""
    with staged(file) as written:
        written.write_text(text)


def write_bytes(file: Path, content: bytes) -> None:
    """As `write_text`."""
    with staged(file) as written:
        written.write_bytes(content)


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
    import msgspec  # noqa: PLC0415 - servers import this file, and need not have it

    if not file.exists():
        return []
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[kind])  # type: ignore[valid-type]
    except msgspec.MsgspecError as error:
        raise BuilderError(f"{file}: expected {what}, got {error}; {remedy}") from error
