from __future__ import annotations

import socket

import pytest
from valkey.exceptions import ValkeyClusterException

from cleave.serving.errors import ServingError
from cleave.serving.store.url import check_typed_url, check_url, connection_from_url, without_secrets


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "host:6379",
        "redis://host:port",
        "redis://[::1",
        "redis://host?socket_timeout=short",
        "redis+cluster://host/3",
        "unix+cluster:///socket",
        "",
    ],
)
def test_a_url_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(ServingError, match=r"--store: expected a URL such as redis://host:6379 .*; correct it"):
        check_url(url)
    with pytest.raises(ServingError):
        connection_from_url(url, 1.0)


def test_a_cluster_is_connected_to_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"redis+cluster://:secret@127.0.0.1:{port}"
    check_url(url)
    with pytest.raises(ValkeyClusterException):
        connection_from_url(url, 1.0)


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


@pytest.mark.parametrize(
    "url", ["redis://:secret@host:port", "redis://:secret/more@host", "redis+cluster://:secret@host/1"]
)
def test_a_refusal_holds_no_password(url: str) -> None:
    with pytest.raises(ServingError) as caught:
        check_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:hidden@host", "rediss://user:hidden@host/1", "unix:///s?password=hidden"])
def test_a_password_is_no_argument(url: str) -> None:
    with pytest.raises(ServingError, match=r"--store: expected a URL without a password.*CLEAVE_STORE$") as caught:
        check_typed_url(url)
    assert "hidden" not in str(caught.value)
    check_typed_url("rediss://host:6379/1")
