"""What a folder of links that Triton serves from leads to."""

from __future__ import annotations

from pathlib import Path


def served_from(served: Path) -> set[Path]:
    """The repositories whose models are linked in a folder."""
    return {link.resolve().parent.parent for link in served.glob("*/*") if link.is_symlink()}
