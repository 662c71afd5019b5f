"""`cleave probe`: whether a server answers, found by real inferences; Triton's health says "ready" of what is dead."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

from cleave.builders.names import UNCACHED, USER, USER_ID, model_name
from cleave.options import add_url, tls_from_options

if TYPE_CHECKING:
    from cleave.clients import ModelSignature, Tls
    from cleave.clients.signature import Axis

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

PROBE_USER = "cleave-probe"
"""The user whom a probe asks for by id alone. Nothing is sent that could be kept of a user of this name."""

TIMEOUT_S = 10.0
EXIT_NOT_READY = 1


def add_probe(commands: Subparsers) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "probe",
        help="say whether a server answers, by a real inference",
        description="Ask a server for scores, with inputs made from what the model publishes. Of a ranker with "
        "summaries, its cache is asked for a user whom it does not know, and NAME_uncached for scores, so encoder and "
        "scorer run and nothing is kept. Exit code 0 if all answer in time, else 1, for the probes of Docker and "
        "Kubernetes.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="a served ranker, NAME_uncached or NAME_whole")
    add_url(parser)
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT_S, metavar="SECONDS", help="for each NAME (default: %(default)g)"
    )
    parser.set_defaults(run=_probe)


def _probe(options: argparse.Namespace) -> int:
    from cleave.clients import RankerError  # noqa: PLC0415 - gRPC is slow to import

    for name in options.names:
        started = time.monotonic()
        try:
            build = probe(options.url, name, options.timeout, tls_from_options(options))
        except RankerError as error:
            print(f"cleave probe: {error}", file=sys.stderr)
            return EXIT_NOT_READY
        print(f"{name} at {options.url}: answered in {(time.monotonic() - started) * 1e3:.0f} ms, build {build}")
    return 0


def probe(url: str, name: str, timeout_s: float, tls: Tls | None = None) -> str | None:
    """Let every process that a request for this model needs do its work; the build that it is of.

    Raises:
        RankerError: the server does not answer, or not rightly.
    """
    from cleave.clients import NotFoundError, RankerClient  # noqa: PLC0415
    from cleave.clients.deadline import Deadline  # noqa: PLC0415

    time_left = Deadline(f"{name} at {url}", timeout_s)
    with RankerClient(url, name, tls=tls) as client:
        signature = client.signature(deadline=time_left.left())
        if signature.summary_cache is None:
            client.infer(probe_inputs(signature), deadline=time_left.left())
            return signature.build
        with contextlib.suppress(NotFoundError):  # as it should be: the cache looks for a user who is nobody
            client.infer(probe_inputs(signature), deadline=time_left.left())
    probe(url, model_name(name, UNCACHED), time_left.left() or timeout_s, tls)
    return signature.build


def probe_inputs(signature: ModelSignature) -> dict[str, Any]:
    """A smallest request, [1, ...] each: events that are no padding, or none where the user can be named by id."""
    import numpy as np  # noqa: PLC0415

    from cleave.clients.signature import Axis  # noqa: PLC0415

    inputs: dict[str, Any] = {}
    for name, tensor in signature.inputs.items():
        if tensor.role == USER_ID:
            inputs[name] = np.array([PROBE_USER.encode()], object)
        elif tensor.role != USER or signature.summary_cache is None:
            shape = [_size(axis) if isinstance(axis, Axis) else axis for axis in tensor.axes]
            inputs[name] = np.full((1, *shape), int(tensor.pad == 0), tensor.dtype)
    return inputs


def _size(axis: Axis) -> int:
    return axis.bucket(max(axis.min, axis.min_real, 1))
