"""What became of one mutated request or value."""

from __future__ import annotations

from dataclasses import dataclass

TIMEOUT_S = 10.0
"""Of every request: one that is not answered by then is not answered at all."""


@dataclass(frozen=True)
class Tried:
    """One mutation, and how the server took it."""

    way: str
    """What was mutated: a message of gRPC, a body of HTTP, a value in the store."""
    mutation: str
    result: str
    """A status, or what was answered."""
    is_defined: bool
    """Whether it is an answer, or an error that says whose fault it is."""
    words: str = ""
    """Of an error that is not."""
