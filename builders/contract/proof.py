"""What the proof of a build tried: in its lines, its JSON and its manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Proof:
    """A search that found no wrong score."""

    num_users: int
    """Users whose scores were compared with those of the module for them alone, without padding."""
    num_lists: int
    """Lists whose scores were compared with those of their candidates one by one."""
    largest: Mapping[str, int]
    """The most real rows along each axis."""
    difference: float
    """The largest one found, as a share of the spread of the scores."""
    seconds: float
    budget_s: float
    """Time after which nothing that is not required was begun."""
    left_out: Mapping[str, int]
    """How many batches and lists of each kind were not tried, for want of time."""
    warnings: tuple[str, ...] = ()
    num_unusual: int = 0
    """Users with values that are large, negative or on the edge of a bucket."""
    num_recorded: int = 0
    """Recorded requests."""
    allowed: float | None = None
    """The largest difference that was allowed, as a share of the spread; None where nothing was compared."""

    def lines(self) -> list[str]:
        """For whoever builds."""
        axes = ", ".join(f"{axis} up to {length:,}" for axis, length in self.largest.items())
        allowed = "" if self.allowed is None else f", where {self.allowed:.2g} is allowed"
        lines = [
            f"proof: {self.num_users:,} users and {self.num_lists:,} lists of candidates, {axes}, in "
            f"{self.seconds:.1f} s: largest difference {self.difference:.2g} of the spread of the scores{allowed}"
        ]
        if self.num_unusual:
            lines.append(f"proof: {self.num_unusual} users with values that are large or on the edge of a bucket")
        if self.num_recorded:
            lines.append(f"proof: {self.num_recorded:,} recorded requests")
        if self.left_out:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.left_out.items())
            lines.append(f"proof: not tried, as more than {self.budget_s:g} s would have passed: {kinds}")
        return lines
