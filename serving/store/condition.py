"""Says what is wrong with a store, once when it begins and once when it ends, so that a log can be read."""

from __future__ import annotations

import threading
from collections.abc import Callable

from valkey.exceptions import AuthenticationError, NoPermissionError, ResponseError

from cleave.serving.store.url import without_secrets

UNREACHABLE = "cannot be reached"
REFUSES = "refuses the user or the password"
_REMEDIES = {
    UNREACHABLE: "see that it runs at this address, and that a firewall or TLS does not stand between",
    REFUSES: "correct them in the URL of --store or CLEAVE_STORE; a user needs all commands on keys that begin cleave:",
}


def trouble_of(error: Exception) -> str | None:
    """What an error says about the store as a whole; None if it is about one command."""
    if isinstance(error, AuthenticationError | NoPermissionError):
        return REFUSES
    return None if isinstance(error, ResponseError) else UNREACHABLE


def warning(url: str, trouble: str, error: object) -> str:
    """What a log says, with the remedy."""
    return (
        f"store {without_secrets(url)}: {trouble} ({error}); until that is mended every history is encoded anew and "
        f"users named by id alone are not found; {_REMEDIES[trouble]}"
    )


class StoreCondition:
    """Follows the outcomes of commands; threads may report them at the same time.

    Args:
        url: of the store.
        warn: gets one line when the trouble changes.
    """

    def __init__(self, url: str, warn: Callable[[str], None]) -> None:
        self._url = url
        self._warn = warn
        self._trouble: str | None = None
        self._lock = threading.Lock()

    def failed(self, error: Exception) -> None:
        """A command was not done."""
        trouble = trouble_of(error)
        with self._lock:
            changed = trouble not in (None, self._trouble)
            self._trouble = trouble or self._trouble
        if changed and trouble:
            self._warn(warning(self._url, trouble, error))

    def answered(self) -> None:
        """A command was done."""
        if self._trouble is None:  # nearly always, and without a lock
            return
        with self._lock:
            before, self._trouble = self._trouble, None
        if before:
            self._warn(f"store {without_secrets(self._url)}: answers again; summaries are kept")
