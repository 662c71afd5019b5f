"""What a server shows and asks of its clients when gRPC is encrypted, by Triton's own TLS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cleave.serving.errors import ServingError


@dataclass(frozen=True)
class ServerTls:
    """Files in PEM; Triton reads them once, when it starts.

    Args:
        certificate: the server's, with those that lead to an authority of its clients.
        key: the private key of `certificate`.
        client_ca: clients must show a certificate that one of these authorities signed; by default they need none.

    Raises:
        ServingError: a file cannot be read; names it.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        for flag, file in (("cert", self.certificate), ("key", self.key), ("client-ca", self.client_ca)):
            try:
                if file is not None:
                    file.read_bytes()
            except OSError as error:
                raise ServingError(
                    f"--tls-{flag}: {file}: expected a file in PEM, got: {error.strerror}; correct the path or its "
                    "permissions"
                ) from error

    def flags(self) -> Iterator[str]:
        """Triton's HTTP has no TLS and would be a way around it: it is off."""
        yield "--allow-http=false"
        yield "--grpc-use-ssl=true"
        yield f"--grpc-server-cert={self.certificate.absolute()}"
        yield f"--grpc-server-key={self.key.absolute()}"
        if self.client_ca is not None:
            yield "--grpc-use-ssl-mutual=true"
            yield f"--grpc-root-cert={self.client_ca.absolute()}"


def tls_from_files(certificate: Path | None, key: Path | None, client_ca: Path | None) -> ServerTls | None:
    """None where no file is given.

    Raises:
        ServingError: a file is missing beside those that are given, or cannot be read.
    """
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise ServingError(
            "--tls-cert, --tls-key: expected both, as TLS is asked for, got one or none; name both files"
        )
    return ServerTls(certificate, key, client_ca)
