from __future__ import annotations

import socket

import pytest

from serving.errors import ServingError
from serving.store_url import blocking_connection_from_url, connection_from_url, without_secrets


@pytest.mark.parametrize("connect", [connection_from_url, blocking_connection_from_url])
@pytest.mark.parametrize(
    "url", ["http://host", "host:6379", "redis://host:port", "redis://[::1", "redis://host?socket_timeout=short", ""]
)
def test_a_url_of_no_store_is_refused(connect: object, url: str) -> None:
    assert callable(connect)
    with pytest.raises(ServingError, match=r"--store: expected a URL such as redis://host:6379 .*; correct it"):
        connect(url)


def test_a_cluster_has_no_databases() -> None:
    with pytest.raises(ServingError, match="--store: expected a URL"):
        connection_from_url("redis+cluster://host/3")


def test_a_cluster_that_cannot_be_reached_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(
        ServingError, match=rf"--store: cannot reach redis\+cluster://\*\*\*@127.0.0.1:{port} \(.*\); see"
    ):
        blocking_connection_from_url(f"redis+cluster://:secret@127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("redis://host:1/2", "redis://host:1/2"),
        ("rediss://ann:secret@host:1/2?password=secret", "rediss://***@host:1/2"),
        ("redis://:sec/ret@host", "redis://***@host"),
        ("redis://:sec?ret@host", "redis://***@host"),
        ("unix:///a/socket?password=secret", "unix:///a/socket"),
        ("host:1", "host:1"),
    ],
)
def test_a_password_is_not_printed(url: str, printed: str) -> None:
    assert without_secrets(url) == printed


@pytest.mark.parametrize("connect", [connection_from_url, blocking_connection_from_url])
@pytest.mark.parametrize(
    "url", ["redis://:secret@host:port", "redis://:secret/more@host", "redis+cluster://:secret@host/1"]
)
def test_a_refusal_holds_no_password(connect: object, url: str) -> None:
    assert callable(connect)
    with pytest.raises(ServingError) as caught:
        connect(url)
    assert "secret" not in str(caught.value)
