"""The subcommands of `serving`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cleave.builders.contract.errors import ContractError
from cleave.builders.contract.location import parse_sizes, repository_folder
from cleave.builders.names import SUMMARY_CACHE
from cleave.options import add_built_sizes, add_json, add_repository
from cleave.serving.errors import ServingError
from cleave.serving.limits import Limits
from cleave.serving.probe import add_probe
from cleave.serving.refresh.commands import add_refresh
from cleave.serving.variables import MAX_AGE_VARIABLE, STORE_VARIABLE

if TYPE_CHECKING:
    from cleave.serving.server.triton import TritonServer
    from cleave.serving.store.embedded import EmbeddedStore, NamedStore

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

EXIT_GIVEN_UP = 1
EXIT_UNFIT = 1
POLL_S = 0.2
DRAIN_S = 20.0
"""Less than the 30 s after which Docker (see deploy/compose.yaml) and Kubernetes kill."""


def add_commands(commands: Subparsers) -> None:
    """Add the subcommands; each sets `run`, a function from the parsed options to an exit code."""
    _add_serve(commands)
    _add_check(commands)
    add_probe(commands)
    add_refresh(commands)


def _add_serve(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "serve",
        help="run a Triton server with built models",
        description="Run Triton in the foreground with all models of the rankers, until Ctrl-C.",
    )
    _add_models(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s)"
    )
    for service, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        parser.add_argument(f"--{service}-port", type=int, default=port, metavar="N", help="default: %(default)s")
    _add_tls(parser)
    _add_store(parser)
    _add_limits(parser)
    parser.add_argument(
        "--drain",
        type=float,
        default=DRAIN_S,
        metavar="SECONDS",
        help="when told to stop, refuse new requests and answer those under way for at most so long (default: "
        "%(default)g)",
    )
    parser.add_argument("--verbose", action="store_true", help="show Triton's log, every step of every request")
    parser.add_argument(
        "--container",
        action="store_true",
        help="as the process of a container: with Triton's log in the output, and no default store",
    )
    parser.set_defaults(run=_serve)


def _add_models(parser: argparse.ArgumentParser) -> None:
    """What is served."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="a ranker of the repository")
    add_repository(parser)
    add_built_sizes(parser)
    parser.add_argument(
        "--config-name", metavar="NAME", help="use configs/NAME.pbtxt where a model has it, as tensorrt"
    )


def _add_tls(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("TLS", "gRPC is encrypted, and HTTP, which Triton cannot encrypt, is off.")
    for flag, text in (
        ("cert", "the server's certificate, in PEM"),
        ("key", "its private key"),
        ("client-ca", "answer only clients with a certificate that this authority signed"),
    ):
        group.add_argument(f"--tls-{flag}", type=Path, metavar="FILE", help=text)


def _add_store(parser: argparse.ArgumentParser) -> None:
    store = parser.add_argument_group("store of summaries")
    store.add_argument(
        "--store",
        metavar="URL",
        help="keep summaries in this Valkey: redis://host:port/db, rediss:// for TLS, redis+cluster:// "
        "for a cluster, unix:///path; or `none` (default: $CLEAVE_STORE, which alone "
        "may hold a password, or one that runs as long as this command)",
    )
    store.add_argument(
        "--store-size",
        metavar="N",
        help="memory of the default store, as 512mb (default: 1gb); too little for one summary is refused",
    )
    store.add_argument(
        "--store-dir", type=Path, metavar="DIR", help="let the default store keep its data here from run to run"
    )
    store.add_argument(
        "--max-age",
        type=float,
        metavar="SECONDS",
        help="how old a summary may be for a user who is named by id alone (default: as in the config, a day)",
    )


_LIMITS = {
    "max_queue": "requests that may wait for each model, and users for the history encoder; more are refused at once",
    "max_encodings": "batches that a summary cache gives to the history encoder at a time",
}
"""What the help says of each of `cleave.serving.limits.Limits`."""


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    for name, text in _LIMITS.items():
        default = getattr(Limits, name)
        group.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=default, metavar="N", help=f"{text} (default: {default})"
        )


def _serve(options: argparse.Namespace) -> int:
    from cleave.serving.server.loaded_models import models_of  # noqa: PLC0415
    from cleave.serving.server.ports import Ports  # noqa: PLC0415 - other commands need no server
    from cleave.serving.server.supervisor import GivenUpError  # noqa: PLC0415
    from cleave.serving.server.tls import tls_from_files  # noqa: PLC0415
    from cleave.serving.server.triton import TritonServer  # noqa: PLC0415

    names = list(dict.fromkeys(options.names))
    repository = options.repository or _default_repository(names, options.size)
    models = [model for name in names for model in models_of(repository, name, options.config_name, options.size)]
    limits = Limits(**{name: getattr(options, name) for name in _LIMITS})
    caches = [model for model in models if model.endswith(SUMMARY_CACHE)]
    log = None if options.container else Path(".cleave", "logs", f"triton-{options.grpc_port}.log").absolute()
    # Both, as a shell starts what it runs in the background with SIGINT ignored.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _store(options, repository, caches) as store:
            server = TritonServer(
                repository,
                models,
                host=options.host,
                ports=Ports(options.http_port, options.grpc_port, options.metrics_port),
                config_name=options.config_name,
                log=log,
                log_to_output=options.container,
                variables=_variables(store, options.max_age),
                limits=limits,
                tls=tls_from_files(options.tls_cert, options.tls_key, options.tls_client_ca),
                verbose=options.verbose,
            )
            print(f"starting Triton with {', '.join(models)}; its log: {log or 'here'}", file=sys.stderr)
            with server:
                _announce(server, names)
                if caches:
                    print(f"store: {store}", flush=True)
                try:
                    _keep_serving(server, store, options.verbose)
                except KeyboardInterrupt:
                    if not server.drain(options.drain):
                        _say(f"--drain: {options.drain:g} s have passed, and some requests under way are not answered")
                    raise
    except GivenUpError as error:
        _say(str(error))
        return EXIT_GIVEN_UP
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _add_check(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "check",
        help="say whether built models are fit to be served here",
        description="Check what `cleave serve` checks before it starts Triton: every model is built, unaltered and of "
        "one build, and every engine is of this machine's TensorRT and GPU. If not: exit code 1, and the command that "
        "builds it.",
    )
    _add_models(parser)
    add_json(parser, "`repository`, `rankers`, `fit`, and the `reason` if they are not, with the command that helps")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from cleave.serving.server.loaded_models import check_models, models_of  # noqa: PLC0415

    names = list(dict.fromkeys(options.names))
    repository = options.repository or _default_repository(names, options.size)
    reason = None
    try:
        for name in names:
            models = models_of(repository, name, options.config_name, options.size)
            check_models(repository, models, options.config_name)
    except (ContractError, ServingError) as error:
        reason = str(error)
        print(f"cleave check: {reason}", file=sys.stderr)
    if options.json:
        result = {"repository": str(repository), "rankers": names, "fit": reason is None, "reason": reason}
        print(json.dumps(result, indent=2))
    elif reason is None:
        print(f"{', '.join(names)}: fit to be served from {repository}")
    return 0 if reason is None else EXIT_UNFIT


def _store(options: argparse.Namespace, repository: Path, caches: list[str]) -> EmbeddedStore | NamedStore:
    """Where the server keeps the summaries of these caches, not started yet."""
    from cleave.serving.store.embedded import EmbeddedStore, NamedStore, default_store  # noqa: PLC0415 - loads the client
    from cleave.serving.store.url import check_typed_url  # noqa: PLC0415
    from cleave.serving.summary.room import check_room  # noqa: PLC0415

    url = options.store or os.environ.get(STORE_VARIABLE) or ("none" if options.container else None)
    for flag, value in (("--store-size", options.store_size), ("--store-dir", options.store_dir)):
        if url is not None and value is not None:
            got = "another by --store" if options.store or not options.container else "--container, which has none"
            raise ServingError(f"{flag}: only for the default store, got {got}; leave one of them out")
    if options.store:
        check_typed_url(options.store)
    if url is not None:
        return NamedStore("" if url == "none" else url)
    if not caches:
        return NamedStore("")
    store = default_store(options.store_size, options.store_dir)
    if isinstance(store, EmbeddedStore):
        check_room(store.size, repository, caches)
    return store


def _variables(store: EmbeddedStore | NamedStore, max_age_s: float | None) -> dict[str, str]:
    if max_age_s is not None and not max_age_s >= 0:
        raise ServingError(f"--max-age: expected seconds of at least 0, got {max_age_s:g}; correct it")
    return {STORE_VARIABLE: store.url} | ({} if max_age_s is None else {MAX_AGE_VARIABLE: str(max_age_s)})


def _default_repository(names: list[str], size: str) -> Path:
    if size and len(names) > 1:
        raise ServingError(f"--size: expected one NAME, got {', '.join(names)}; serve each of its own sizes by itself")
    return repository_folder(names[0], parse_sizes(size))


def _announce(server: TritonServer, names: list[str]) -> None:
    print(f"ready: {', '.join(names)}")
    print(f"grpc: {server.grpc_url}")
    if server.tls is None:
        print(f"http: {server.http_url}")
    print(f"metrics: {server.metrics_url}", flush=True)


def _keep_serving(server: TritonServer, store: EmbeddedStore | NamedStore, verbose: bool) -> NoReturn:
    """Start anew what ends of the server and the store, until that helps no more.

    Raises:
        GivenUpError: see `cleave.serving.server.supervisor`.
    """
    from cleave.serving.server.supervisor import Supervisor  # noqa: PLC0415 - other commands need no server

    supervisor = Supervisor(server, _say)
    while True:
        with contextlib.nullcontext() if server.log is None else server.log.open(errors="replace") as log:
            while server.fault() is None:
                if verbose and log is not None:
                    sys.stderr.write(log.read())
                if store.revive():
                    _say("the embedded store ended and was started again")
                time.sleep(POLL_S)
        supervisor.keep_whole()


def _say(line: str) -> None:
    print(f"cleave serve: {line}", file=sys.stderr, flush=True)
