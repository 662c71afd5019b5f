"""The errors a client raises, worded `<where>: <what>, expected <x>, got <y>; <what to do>`.

    RankerError
    ├── InvalidRequestError      the caller's: found before sending, or refused by the server
    ├── NotFoundError            the caller's or the operator's: the server has no such model, or no such thing in it
    ├── SignatureError      the operator's: the model was not built by cleave, or by another version of it
    ├── UnavailableError   nobody's: not reachable or not ready; the same call may succeed later
    │   ├── OtherBuildError    the server went from one build to another and back, or several serve different ones
    │   └── OverloadedError    too many requests wait; try again after a while, or ask another server
    ├── DeadlineError    nobody's: no answer in the time the caller gave
    └── ServerError         the server's

Scoring changes nothing on the server, so every call may be repeated.
"""

from __future__ import annotations

MAX_SHOWN = 200
"""Characters of a caller's value in a message."""


class RankerError(Exception):
    """Any failure of a ranking request."""


class InvalidRequestError(RankerError, ValueError):
    """The request is wrong and will never succeed as it is."""


class NotFoundError(RankerError):
    """The server has no model of this name."""


class SignatureError(RankerError):
    """The served model does not say what a client must know of it, or says two things."""


class UnavailableError(RankerError):
    """The server cannot be reached or is not ready."""


class UntrustedError(UnavailableError):
    """Client and server do not trust each other's certificates; calls succeed once the files are right."""


class OtherBuildError(UnavailableError):
    """The server does not have the build that the request was made for, nor the one that it was then made for."""


class OverloadedError(UnavailableError):
    """The server refused the request at once, as too many others wait: RESOURCE_EXHAUSTED."""


class DeadlineError(RankerError, TimeoutError):
    """The whole call took longer than its deadline."""


class ServerError(RankerError):
    """The server failed on a request that looked right."""


def shown(value: object) -> str:
    """A caller's value as errors say it: short, and never an error itself."""
    try:
        text = repr(value)
    except Exception:  # a caller's object may do anything, and Python writes no number of thousands of digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
