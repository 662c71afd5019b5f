"""The machine of a run: its peaks and its description."""
