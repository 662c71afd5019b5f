"""What the clients of a soak saw: counts, and each answer that was not as it should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cleave.clients.errors import DeadlineError, UnavailableError

RETRYABLE: tuple[type[Exception], ...] = (UnavailableError, DeadlineError)
"""Errors after which a caller may send the same request again."""


@dataclass(frozen=True)
class Failure:
    """A request that ended with an error."""

    kind: str
    """The class of the error."""
    retryable: bool
    words: str
    sent: float
    """By `time.monotonic`, which all processes of a machine share."""
    ended: float

    @classmethod
    def of(cls, error: Exception, sent: float, ended: float) -> Failure:
        return cls(type(error).__name__, isinstance(error, RETRYABLE), str(error), sent, ended)


@dataclass
class Tally:
    """Requests of one client since its tally before."""

    begun: int = 0
    answered: int = 0
    late: int = 0
    """Answers or errors that came long after the deadline of their call."""
    behind: int = 0
    """Answers to a user id alone that are of an older history of that user than the last one sent: the store did not
    keep the newer one."""
    statuses: Counter[str] = field(default_factory=Counter)
    """How summaries were obtained."""
    failures: list[Failure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Answers with scores of no history that was sent: which user, and what was expected."""

    @property
    def ended(self) -> int:
        return self.answered + len(self.failures)

    def add(self, other: Tally) -> None:
        """Count the requests of another tally as well."""
        self.begun += other.begun
        self.answered += other.answered
        self.late += other.late
        self.behind += other.behind
        self.statuses += other.statuses
        self.failures += other.failures
        self.wrong += other.wrong
