"""From the URL of a store to a client of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import valkey
import valkey.cluster
from valkey.exceptions import ValkeyClusterException, ValkeyError

from cleave.serving.errors import ServingError

CLUSTER = "+cluster"
SCHEMES = ("redis", "rediss", "unix", f"redis{CLUSTER}", f"rediss{CLUSTER}")

FAILURES = (ValkeyError, ValkeyClusterException, OSError)
"""What a client raises when a command was not done."""


def check_url(url: str) -> None:
    """See whether this is the URL of a store, without asking it anything.

    Raises:
        ServingError: it is not.
    """
    scheme, address = _split(url)
    try:
        if scheme not in SCHEMES:
            raise ValueError(scheme)
        parsed = valkey.Valkey.from_url(address).get_connection_kwargs()
    except (TypeError, ValueError):
        raise _refusal(url) from None
    if scheme.endswith(CLUSTER) and parsed.get("db"):
        raise _refusal(url)


def check_typed_url(url: str) -> None:
    """Refuse a password in an argument, which everybody who may list processes can read.

    Raises:
        ServingError: there is one.
    """
    if urlsplit(url).password or "password=" in urlsplit(url).query:
        raise ServingError(
            f"--store: expected a URL without a password, as every user of the machine can read arguments, got "
            f"{without_secrets(url)}; put the URL into the environment, as CLEAVE_STORE"
        )


def connection_from_url(url: str, timeout_s: float) -> Any:
    """A client of a store, which threads may share; it blocks.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://` for TLS, `redis+cluster://` and `rediss+cluster://`
            for a cluster, of which one node is enough, `unix:///path` for a socket.
        timeout_s: for a connection and for an answer; `?socket_timeout=` in the URL overrides it.

    Raises:
        ServingError: this is no such URL.
        ValkeyClusterException: the cluster cannot be reached; other stores are connected to when they are first used.
    """
    check_url(url)
    scheme, address = _split(url)
    client = valkey.cluster.ValkeyCluster if scheme.endswith(CLUSTER) else valkey.Valkey
    return client.from_url(address, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)


def _split(url: str) -> tuple[str, str]:
    """The scheme, and what the client takes for a URL."""
    scheme, separator, rest = url.partition("://")
    return scheme, f"{scheme.removesuffix(CLUSTER)}{separator}{rest}"


def _refusal(url: str) -> ServingError:
    """Without the client's words, which may hold a part of the password."""
    wanted = f"a URL such as redis://host:6379 ({', '.join(SCHEMES)})"
    return ServingError(f"--store: expected {wanted}, got {without_secrets(url)}; correct it")


def without_secrets(url: str) -> str:
    """The URL as it may be printed."""
    scheme, separator, rest = url.partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{'***@' if at else ''}{place.partition('?')[0]}"
