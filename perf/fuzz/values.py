"""Mutations of what the store keeps: a summary must be told from anything else that may stand in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cleave.clients import NotFoundError, RankerClient, RankerError
from cleave.perf.fuzz.messages import Rng, mutated_bytes, pick
from cleave.perf.fuzz.tried import TIMEOUT_S, Tried
from cleave.perf.soak.people import People
from cleave.perf.soak.server import MODEL
from cleave.serving.store.url import connection_from_url

SUMMARIES = f"cleave:{MODEL}:summary:*"
NUM_USERS = 16


def _foreign(value: bytes, rng: Rng) -> bytes:
    other: bytes = pick(rng, (b"", b"\0", b"\x80\x04K\x01.", b'{"a": 1}', rng.bytes(len(value))))
    return other


def _huge(value: bytes, rng: Rng) -> bytes:
    """A length in the middle of the value, such as that of the tensors' header, that nothing has."""
    place = int(rng.integers(0, max(1, min(200, len(value) - 8))))
    length: bytes = pick(rng, (b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\0" * 8))
    return value[:place] + length + value[place + 8 :]


MUTATIONS: dict[str, Callable[[bytes, Rng], bytes]] = {
    "bytes": lambda value, rng: mutated_bytes(rng, value),
    "foreign value": _foreign,
    "huge length": _huge,
}
OTHER_KIND = "another kind of value"


class ValueFuzzer:
    """Puts mutated values in the place of kept summaries, and asks for the users that they are of.

    Args:
        store_url: of the store of the server.
    """

    way = "store"

    def __init__(self, url: str, store_url: str, people: People) -> None:
        self._people = people
        self._client = RankerClient(url, MODEL)
        self._store: Any = connection_from_url(store_url, TIMEOUT_S)
        self._keys = [self._key_of(user) for user in range(NUM_USERS)]

    def try_one(self, rng: Rng) -> Tried:
        """Mutate the summary of one user, and rank, with the user's history or by the id alone."""
        user, by_id = int(rng.integers(NUM_USERS)), bool(rng.integers(2))
        key = self._keys[user]
        mutation = pick(rng, (*MUTATIONS, OTHER_KIND))
        try:
            self._rank(user, by_id=False)  # there is something to mutate
            value = self._store.get(key)
            if mutation == OTHER_KIND:
                self._store.delete(key)
                self._store.lpush(key, value)
            else:
                self._store.set(key, MUTATIONS[mutation](value, rng))
            result, is_defined = self._rank(user, by_id)
        except RankerError as error:
            is_defined = by_id and isinstance(error, NotFoundError)
            return Tried(self.way, mutation, type(error).__name__, is_defined, str(error))
        finally:
            self._store.delete(key)
        return Tried(self.way, mutation, result, is_defined, result)

    def close(self) -> None:
        self._client.close()
        self._store.close()

    def _rank(self, user: int, by_id: bool) -> tuple[str, bool]:
        """How the summary was obtained, and whether the scores are right. Raises: RankerError."""
        ranking, is_right = self._people.rank(self._client, user, deadline=TIMEOUT_S, user_id=_id(user), by_id=by_id)
        return f"{ranking.summary_status}, {'right' if is_right else 'WRONG'} scores", is_right

    def _key_of(self, user: int) -> bytes:
        """The key that is there once the user was ranked."""
        before = set(self._store.keys(SUMMARIES))
        self._rank(user, by_id=False)
        (key,) = set(self._store.keys(SUMMARIES)) - before
        return bytes(key)


def _id(user: int) -> str:
    return f"fuzz-{user}"
