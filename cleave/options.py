"""Options that several commands have: name, form, default and help of each stand here once.

The file lies beside the packages because all of them read it, and `serving` imports little of `builders`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cleave.clients.tls import Tls

GRPC_URL = "localhost:8001"
"""Where `cleave serve` listens unless it is told another place."""


def add_model(parser: argparse.ArgumentParser) -> None:
    """The model that a command is about."""
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a zoo model, module:attribute, file.py:attribute, or the .safetensors file of `cleave train`",
    )


def add_size(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Sizes of a zoo model, as `cleave.builders.contract.location.parse_sizes` reads them."""
    parser.add_argument("--size", default="", metavar="NAME=N,...", help=help_text)


def add_other_sizes(parser: argparse.ArgumentParser, example: str = "layers=3,width=128,heads=4") -> None:
    """The sizes that a zoo model is made with."""
    add_size(parser, f"other sizes for a zoo model than its own, as in {example}")


def add_built_sizes(parser: argparse.ArgumentParser) -> None:
    """The sizes that name a build."""
    add_size(parser, "the sizes that the model was built with")


def add_data(parser: argparse.ArgumentParser, purpose: str = "", default: str = "MovieLens-100k") -> None:
    """The ratings that a command reads."""
    what = " ".join(["a GroupLens folder or ratings file", *filter(None, [purpose])])
    parser.add_argument("--data", type=Path, metavar="PATH", help=f"{what} (default: {default})")


def add_repository(parser: argparse.ArgumentParser) -> None:
    """The model repository that a command reads."""
    parser.add_argument(
        "--repository",
        type=Path,
        metavar="DIR",
        help="the model repository (default: where `cleave build` writes: model_repository; with --size a folder of "
        "its own)",
    )


def add_url(parser: argparse.ArgumentParser) -> None:
    """The server that a command asks."""
    parser.add_argument(
        "--url", default=GRPC_URL, metavar="HOST:PORT", help="gRPC of the server (default: %(default)s)"
    )
    add_tls(parser)


def add_tls(parser: argparse.ArgumentParser) -> None:
    """The certificates for the server that a command asks; `tls_from_options` reads them."""
    for flag, text in (
        ("ca", "use TLS, and trust servers that this authority signed, in PEM"),
        ("cert", "the client's own certificate, for mutual TLS"),
        ("key", "its private key"),
    ):
        parser.add_argument(f"--tls-{flag}", type=Path, metavar="FILE", help=text)


def tls_from_options(options: argparse.Namespace) -> Tls | None:
    """None where no file is given.

    Raises:
        InvalidRequestError: a certificate is given without its key, or the other way round.
    """
    from cleave.clients.tls import Tls  # noqa: PLC0415 - most commands need no client

    files = (options.tls_ca, options.tls_cert, options.tls_key)
    return Tls(*files) if any(files) else None


def add_url_or_start(parser: argparse.ArgumentParser) -> None:
    """The server that a command asks; it starts one unless it is told of one."""
    parser.add_argument("--url", metavar="HOST:PORT", help="gRPC of a running server (default: start one)")


def add_json(parser: argparse.ArgumentParser, result: str) -> None:
    """Whether the result is for machines.

    Args:
        result: the keys of the object that is printed.
    """
    parser.add_argument("--json", action="store_true", help=f"print the result on stdout as one JSON object: {result}")
