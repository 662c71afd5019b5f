"""The machine that is measured on: its limits and its description."""
