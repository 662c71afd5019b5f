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
)
from cleave.clients.ranking import Ranking
from cleave.clients.signature import ModelSignature

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
    "UnavailableError",
]
