"""Chooses where a server listens, and refuses a port that it would not get."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cleave.serving.errors import ServingError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """Ports to listen on; None where any free one will do."""

    http: int | None = None
    grpc: int | None = None
    metrics: int | None = None

    def items(self) -> Iterator[tuple[str, int | None]]:
        yield from (("http", self.http), ("grpc", self.grpc), ("metrics", self.metrics))


def choose_ports(host: str, asked: Ports) -> Ports:
    """`asked` with a free port for every None.

    Raises:
        ServingError: a port is taken, asked for twice, or not ours to listen on; names its flag.
    """
    with contextlib.ExitStack() as held:
        chosen = {}
        # Ports that were asked for come first, so that none of them is taken as a free one.
        for service, port in sorted(asked.items(), key=lambda item: item[1] is None):
            listening = held.enter_context(socket.socket())
            # As Triton does; a port in TIME_WAIT is free.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((host, port or 0))
                listening.listen()
            except (OSError, OverflowError) as error:
                if isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
                    raise ServingError(
                        f"--host {host}: expected an address of this machine, got: {error}; use 127.0.0.1, or 0.0.0.0 "
                        "for all of its addresses"
                    ) from error
                raise ServingError(
                    f"--{service}-port {port}: expected a free port, got: {getattr(error, 'strerror', None) or error}; "
                    "stop what uses it or choose another"
                ) from error
            chosen[service] = listening.getsockname()[1]
    return replace(asked, **chosen)
