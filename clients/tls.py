"""Certificates of a client: which servers it trusts, and how it shows who it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cleave.clients.errors import InvalidRequestError

if TYPE_CHECKING:
    import grpc

Stamp = tuple[tuple[int, int, int], ...]
"""What changes when a file is written or replaced, of each file."""


@dataclass(frozen=True)
class Tls:
    """Files in PEM; a client reads them again when they have changed.

    Args:
        ca: the certificates of the authorities that sign servers; by default those that gRPC brings along.
        certificate: the client's own, with those that lead to an authority of the server; for mutual TLS.
        key: the private key of `certificate`.

    Raises:
        InvalidRequestError: one of `certificate` and `key` is given without the other.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            lacking, given = ("key", "certificate") if self.key is None else ("certificate", "key")
            raise InvalidRequestError(f"TLS: expected a {lacking}, as a {given} is given, got none; name its file too")

    def stamp(self) -> Stamp:
        """Equal as long as no file changes.

        Raises:
            InvalidRequestError: a file is not there; names it.
        """
        try:
            stats = [file.stat() for file in (self.ca, self.certificate, self.key) if file is not None]
        except OSError as error:
            raise _unreadable(error) from error
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)

    def credentials(self) -> grpc.ChannelCredentials:
        """Of the files as they are now.

        Raises:
            InvalidRequestError: a file cannot be read; names it.
        """
        import grpc  # noqa: PLC0415 - slow to import

        try:
            ca, key, certificate = (
                None if f is None else f.read_bytes() for f in (self.ca, self.key, self.certificate)
            )
        except OSError as error:
            raise _unreadable(error) from error
        return grpc.ssl_channel_credentials(ca, key, certificate)


def _unreadable(error: OSError) -> InvalidRequestError:
    return InvalidRequestError(
        f"TLS: {error.filename}: expected a file in PEM, got: {error.strerror}; correct the path or its permissions"
    )
