"""A claim: a figure that was measured, against its target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A figure against its target."""

    what: str
    measured: float
    target: float
    holds: bool
    details: str

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "FAILS"
        return f"{verdict}  {self.what}: {self.measured:.4g} (target: {self.target:g})\n       {self.details}"
