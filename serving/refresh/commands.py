"""`cleave refresh`: a worker that keeps the summaries of one ranker fresh."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cleave.options import add_url, tls_from_options
from cleave.serving.errors import ServingError
from cleave.serving.variables import STORE_VARIABLE

if TYPE_CHECKING:
    from cleave.serving.refresh.worker import Refresher

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DEFAULT_STREAM = "cleave:events"
SAY_EVERY_S = 10.0
STORE_TIMEOUT_S = 10.0


def add_refresh(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "refresh",
        help="keep summaries fresh, off the request path",
        description="Read events from a stream of the store, keep each user's history, and let the server encode users "
        "with new events. Any number of workers may run; what one leaves behind, another takes over. An event is an "
        "entry with the fields `user`, `time` (Unix, seconds) and one for each user input of the ranker: "
        "XADD cleave:events * user 42 time 1700000000 history_items 31 history_ratings 8",
    )
    parser.add_argument("name", metavar="NAME", help="a served ranker, such as vista")
    parser.add_argument("--store", metavar="URL", help="the store, as for `cleave serve` (default: $CLEAVE_STORE)")
    add_url(parser)
    parser.add_argument("--stream", default=DEFAULT_STREAM, metavar="KEY", help="events (default: %(default)s)")
    for flag, default, words in (
        ("--every", 60.0, "encode a user at most once in so long"),
        ("--lease", 60.0, "after so long, take over what another worker was given"),
    ):
        parser.add_argument(
            flag, type=float, default=default, metavar="SECONDS", help=f"{words} (default: {default:g})"
        )
    parser.add_argument("--once", action="store_true", help="end when there are neither events nor users to encode")
    parser.set_defaults(run=_refresh)


def _refresh(options: argparse.Namespace) -> int:
    """Run until Ctrl-C, or to the end of the events.

    Raises:
        ServingError: no store, or one that cannot be used.
        RankerError: the server does not serve this ranker.
    """
    from cleave.clients import RankerClient  # noqa: PLC0415 - gRPC is slow to import

    _check_seconds(options)
    with RankerClient(options.url, options.name, tls=tls_from_options(options)) as client:
        refresher = _refresher(options, client)
        stopped = False

        def stop(*_: object) -> None:
            nonlocal stopped
            stopped = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            _run(refresher, lambda busy: stopped or (options.once and not busy))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    print(f"{options.name}: {refresher.counts}")
    return 0


def _check_seconds(options: argparse.Namespace) -> None:
    for flag, seconds, least in (("--every", options.every, 0), ("--lease", options.lease, 1)):
        if not seconds >= least:
            raise ServingError(f"{flag}: expected seconds of at least {least}, got {seconds:g}; correct it")


def _refresher(options: argparse.Namespace, client: object) -> Refresher:
    from cleave.clients import RankerClient  # noqa: PLC0415
    from cleave.serving.refresh.events import EventStream, history_tensors, max_events  # noqa: PLC0415
    from cleave.serving.refresh.histories import Histories  # noqa: PLC0415
    from cleave.serving.refresh.worker import DEADLINE_S, Refresher  # noqa: PLC0415
    from cleave.serving.store.url import FAILURES, check_typed_url, connection_from_url, without_secrets  # noqa: PLC0415
    from cleave.serving.summary.keys import RefreshKeys  # noqa: PLC0415

    assert isinstance(client, RankerClient)
    if options.store:
        check_typed_url(options.store)
    url = options.store or os.environ.get(STORE_VARIABLE)
    if not url:
        raise ServingError("--store: expected the URL of the server's store, got none; `cleave serve` prints it")
    try:
        connection = connection_from_url(url, STORE_TIMEOUT_S)
    except FAILURES as error:
        raise ServingError(f"--store: cannot reach {without_secrets(url)} ({error}); see that it runs") from error
    worker = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
    most = max_events(history_tensors(client.signature(deadline=DEADLINE_S)))
    histories = Histories(connection, RefreshKeys(options.name), most, options.every, options.lease, time.time)
    stream = EventStream(connection, options.stream, options.name, worker)
    return Refresher(client, stream, histories, lease_s=options.lease, log=_log)


def _run(refresher: Refresher, ended: Callable[[bool], bool]) -> None:
    """Steps, and from time to time a word about them, until `ended` says so of one that had nothing to do."""
    from cleave.serving.refresh.worker import RETRY_S  # noqa: PLC0415
    from cleave.serving.store.url import FAILURES  # noqa: PLC0415

    said, said_at = str(refresher.counts), time.monotonic()
    busy = True
    while not ended(busy):
        try:
            busy = refresher.step()
        except FAILURES as error:
            _log(f"store: {error}; trying again")
            time.sleep(RETRY_S)
        if str(refresher.counts) != said and time.monotonic() > said_at + SAY_EVERY_S:
            said, said_at = str(refresher.counts), time.monotonic()
            _log(said)


def _log(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
