"""A bound that a run has to keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """Something counted, and the most that it may be."""

    what: str
    counted: float
    most: float

    @property
    def holds(self) -> bool:
        return self.counted <= self.most

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """A row of a table, with the verdict at its end."""
        return self.what, f"{self.counted:,g}", f"{self.most:,g}", "holds" if self.holds else "**broken**"
