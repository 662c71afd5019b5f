"""Names of what the store holds for a ranker, so that everything of a user can be found and deleted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """The keys of one ranker in the store.

    Args:
        ranker: its name.
        build: 32 bytes that name the weights and graph of the encoder, so that no build finds the summaries of another.
    """

    ranker: str
    build: bytes

    def of_user(self, user_id: bytes) -> bytes:
        """The summary of a user by this build."""
        return self.of_user_and_build(user_id, self.build.hex().encode())

    def of_user_and_build(self, user_id: bytes, build: bytes) -> bytes:
        """The summary of a user by a build, of which `build` is the hexadecimal name."""
        return b"cleave:%b:summary:%b:%b:user:%b" % (self.ranker.encode(), build, _slot(user_id), user_id)

    def permit(self, user_id: bytes) -> bytes:
        """The permit to keep a summary of the user by whatever build, on the node that has the user's summaries."""
        return b"cleave:%b:permit:%b" % (self.ranker.encode(), _slot(user_id))

    def of_digest(self, digest: bytes) -> bytes:
        """The summary of a history whose user has no id."""
        build, name = self.build.hex().encode(), digest.hex().encode()
        return b"cleave:%b:summary:%b:digest:%b" % (self.ranker.encode(), build, name)

    @property
    def refresh(self) -> RefreshKeys:
        """What refreshes the ranker's summaries."""
        return RefreshKeys(self.ranker)

    @property
    def builds(self) -> bytes:
        """The set of hexadecimal names of all builds of the ranker that kept anything."""
        return b"cleave:%b:builds" % self.ranker.encode()


def shown(user_id: bytes) -> str:
    """The user as errors say it."""
    return repr(user_id.decode(errors="backslashreplace"))


def _slot(user_id: bytes) -> bytes:
    """Keys with this in them are on one node of a cluster; not the id itself, which a permit must not keep."""
    return b"{%b}" % hashlib.blake2b(user_id, digest_size=16).hexdigest().encode()


@dataclass(frozen=True)
class RefreshKeys:
    """The keys of what refreshes the summaries of one ranker, whatever build serves it.

    Those that are used together have the ranker in braces, which puts them on one node of a cluster.
    """

    ranker: str

    def history(self, user_id: bytes) -> bytes:
        """A sorted set of the user's events by time."""
        return b"cleave:%b:history:%b" % (self.ranker.encode(), user_id)

    @property
    def due(self) -> bytes:
        """A sorted set of users by the time (Unix, ms) at which they are to be encoded."""
        return b"cleave:{%b}:due" % self.ranker.encode()

    @property
    def encoded(self) -> bytes:
        """A sorted set of users by the time (Unix, ms) at which they were encoded last."""
        return b"cleave:{%b}:encoded" % self.ranker.encode()
