"""gRPC clients of a served ranker; needs numpy and tritonclient only."""

from cleave.clients.client import AsyncRankerClient, RankerClient
from cleave.clients.errors import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OtherBuildError,
    OverloadedError,
    RankerError,
    ServerError,
    SignatureError,
    UnavailableError,
    UntrustedError,
)
from cleave.clients.ranking import Ranking
from cleave.clients.signature import ModelSignature
from cleave.clients.tls import Tls

__all__ = [
    "AsyncRankerClient",
    "DeadlineError",
    "InvalidRequestError",
    "ModelSignature",
    "NotFoundError",
    "OtherBuildError",
    "OverloadedError",
    "RankerClient",
    "RankerError",
    "Ranking",
    "ServerError",
    "SignatureError",
    "Tls",
    "UnavailableError",
    "UntrustedError",
]
