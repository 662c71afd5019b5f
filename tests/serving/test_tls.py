"""TLS from end to end: clients and servers that trust each other, and those that do not."""

from __future__ import annotations

import datetime
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from cleave.clients import AsyncRankerClient, InvalidRequestError, RankerClient, Tls, UnavailableError, UntrustedError
from cleave.serving.errors import ServingError
from cleave.serving.server.tls import ServerTls, tls_from_files
from cleave.serving.server.triton import TritonServer
from tests.conftest import Serve
from tests.serving import cached_toy

MODEL = "toy_uncached"
DEADLINE_S = 10
YESTERDAY = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)


@dataclass(frozen=True)
class Files:
    """What an authority issued, in PEM."""

    ca: Path
    certificate: Path
    key: Path

    @property
    def of_client(self) -> Tls:
        return Tls(self.ca, self.certificate, self.key)

    @property
    def of_server(self) -> ServerTls:
        return ServerTls(self.certificate, self.key)


def issue(folder: Path, ca: trustme.CA, *names: str, not_after: datetime.datetime | None = None) -> Files:
    folder.mkdir(exist_ok=True)
    files = Files(folder / "ca.pem", folder / "certificate.pem", folder / "key.pem")
    issued = ca.issue_cert(*(names or ("localhost", "127.0.0.1")), not_after=not_after)
    ca.cert_pem.write_to_path(files.ca)
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(files.key)
    return files


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return issue(tmp_path_factory.mktemp("issued"), ca)


@pytest.fixture(scope="module")
def built(gate: cached_toy.Gate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_toy.write(tmp_path_factory.mktemp("tls"), gate.folder)


@pytest.fixture(scope="module")
def mutual(serve: Serve, files: Files, built: Path) -> TritonServer:
    """It asks its clients for certificates of the same authority."""
    return serve(built, [MODEL], tls=ServerTls(files.certificate, files.key, files.ca))


def _signature(server: TritonServer, tls: Tls | None) -> str:
    with RankerClient(server.grpc_url, MODEL, tls=tls) as client:
        return client.signature(deadline=DEADLINE_S).model


def test_who_shows_a_certificate_of_the_authority_is_answered(mutual: TritonServer, files: Files) -> None:
    assert _signature(mutual, files.of_client) == MODEL


def test_http_is_off(mutual: TritonServer) -> None:
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", mutual.ports.http), timeout=DEADLINE_S)


async def test_so_is_a_client_for_asyncio(mutual: TritonServer, files: Files) -> None:
    async with AsyncRankerClient(mutual.grpc_url, MODEL, tls=files.of_client) as client:
        assert (await client.signature(deadline=DEADLINE_S)).model == MODEL


@pytest.mark.parametrize("flaw", ["without TLS", "no certificate", "of another authority", "expired"])
def test_a_client_that_the_server_does_not_trust_is_not_answered(
    flaw: str, mutual: TritonServer, files: Files, ca: trustme.CA, tmp_path: Path
) -> None:
    expired = issue(tmp_path / "expired", ca, not_after=YESTERDAY)
    other = issue(tmp_path / "other", trustme.CA())
    shown = {
        "without TLS": None,
        "no certificate": Tls(files.ca),
        "of another authority": Tls(files.ca, other.certificate, other.key),
        "expired": expired.of_client,
    }
    with pytest.raises(UnavailableError, match=f"{MODEL} at {mutual.grpc_url}: .*certificate"):
        _signature(mutual, shown[flaw])


def test_a_client_trusts_no_server_of_another_authority_until_its_file_is_right(
    mutual: TritonServer, files: Files, tmp_path: Path
) -> None:
    tls = issue(tmp_path / "client", trustme.CA()).of_client
    assert tls.ca is not None
    with RankerClient(mutual.grpc_url, MODEL, tls=Tls(tls.ca, files.certificate, files.key)) as client:
        with pytest.raises(UntrustedError, match="refused over certificates; see that both are of the right authority"):
            client.signature(deadline=DEADLINE_S)
        tls.ca.write_bytes(files.ca.read_bytes())
        assert client.signature(deadline=DEADLINE_S).model == MODEL


@pytest.mark.parametrize("flaw", ["expired", "of another host"])
def test_a_client_trusts_no_server_that_is_expired_or_another(
    flaw: str, built: Path, ca: trustme.CA, tmp_path: Path
) -> None:
    names, not_after = ((), YESTERDAY) if flaw == "expired" else (("other.example",), None)
    files = issue(tmp_path / "server", ca, *names, not_after=not_after)
    with TritonServer(built, [MODEL], tls=files.of_server) as server, pytest.raises(UntrustedError, match=MODEL):
        _signature(server, Tls(files.ca))


def test_files_that_are_not_there_are_named(files: Files, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with (
        RankerClient("localhost:1", MODEL, tls=Tls(missing)) as client,
        pytest.raises(InvalidRequestError, match=r"TLS: \S*missing.pem: expected a file in PEM, got: No such file"),
    ):
        client.signature()
    with pytest.raises(InvalidRequestError, match="TLS: expected a key, as a certificate is given, got none"):
        Tls(certificate=files.certificate)
    with pytest.raises(ServingError, match=r"--tls-client-ca: \S*missing.pem: expected a file in PEM"):
        tls_from_files(files.certificate, files.key, missing)
    with pytest.raises(ServingError, match="--tls-cert, --tls-key: expected both"):
        tls_from_files(files.certificate, None, None)
    assert tls_from_files(None, None, None) is None
