"""gRPC clients of a served ranker; needs numpy and tritonclient only, so the folder may be copied on its own."""

from clients.client import AsyncRankerClient, RankerClient
from clients.errors import (
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    RankerError,
    ServerError,
    SignatureError,
    UnavailableError,
)
from clients.ranking import Ranking
from clients.signature import Signature

__all__ = [
    "AsyncRankerClient",
    "DeadlineError",
    "InvalidRequestError",
    "NotFoundError",
    "RankerClient",
    "RankerError",
    "Ranking",
    "ServerError",
    "Signature",
    "SignatureError",
    "UnavailableError",
]
