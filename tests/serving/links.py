"""What a folder of links that Triton serves from leads to."""

from __future__ import annotations

from pathlib import Path

from cleave.builders.names import CONFIG_FILE


def served_from(served: Path) -> set[Path]:
    """The repositories whose models are linked in a folder."""
    return {file.resolve().parent.parent for file in served.glob(f"*/{CONFIG_FILE}")}
