"""From the URL of a store to a client of it."""

from __future__ import annotations

import asyncio
from typing import Any

import valkey
import valkey.asyncio
import valkey.cluster
from valkey.exceptions import ValkeyClusterException, ValkeyError

from serving.errors import ServingError

CLUSTER = "+cluster"
SCHEMES = ("redis", "rediss", "unix", f"redis{CLUSTER}", f"rediss{CLUSTER}")

TIMEOUT_S = 0.25
"""For a connection and for an answer: encoding anew takes about as long. `?socket_timeout=` of the URL overrides it."""

BLOCKING_TIMEOUT_S = 10.0
"""The same where nobody waits for the answer."""

FAILURES = (ValkeyError, ValkeyClusterException, OSError, asyncio.TimeoutError)
"""What a client raises when a command was not done."""


def connection_from_url(url: str) -> Any:
    """A client of a store, for asyncio; it connects when it is first used, on the event loop it is used on.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://` for TLS, `redis+cluster://` and `rediss+cluster://`
            for a cluster, of which one node is enough, `unix:///path` for a socket.

    Raises:
        ServingError: this is no such URL.
    """
    try:
        address, options = _address(url, TIMEOUT_S)
        if address == url:
            return valkey.asyncio.Valkey.from_url(address, **options)
        options |= {"cluster_error_retry_attempts": 1, "connection_error_retry_attempts": 1}
        return valkey.asyncio.ValkeyCluster.from_url(address, **options)
    except (TypeError, ValueError, ValkeyError, ValkeyClusterException):
        raise _refusal(url) from None


def blocking_connection_from_url(url: str) -> Any:
    """A client of a store that blocks; a cluster is connected to at once.

    Raises:
        ServingError: this is no such URL, or the cluster cannot be reached.
    """
    try:
        address, options = _address(url, BLOCKING_TIMEOUT_S)
        client = valkey.Valkey if address == url else valkey.cluster.ValkeyCluster
        return client.from_url(address, **options)
    except (OSError, ValkeyError, ValkeyClusterException) as error:
        raise ServingError(f"--store: cannot reach {without_secrets(url)} ({error}); see that it runs") from error
    except (TypeError, ValueError):
        raise _refusal(url) from None


def _address(url: str, timeout_s: float) -> tuple[str, dict[str, Any]]:
    """What the client takes for a URL; another one if it is that of a cluster."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        raise ValueError(scheme)
    timeouts = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    return f"{scheme.removesuffix(CLUSTER)}://{rest}", timeouts


def _refusal(url: str) -> ServingError:
    """Without the client's words, which may hold a part of the password."""
    wanted = f"a URL such as redis://host:6379 ({', '.join(SCHEMES)})"
    return ServingError(f"--store: expected {wanted}, got {without_secrets(url)}; correct it")


def without_secrets(url: str) -> str:
    """The URL as it may be printed."""
    scheme, separator, rest = url.partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{'***@' if at else ''}{place.partition('?')[0]}"
