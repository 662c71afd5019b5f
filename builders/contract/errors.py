"""The base of what servers and clients may find wrong with what was built."""

from __future__ import annotations

from cleave.builders.errors import BuilderError


class ContractError(BuilderError):
    """What was built is not what the build promised, or is not to be used here."""
