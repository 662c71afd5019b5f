"""Cuts a PyTorch ranking model where the user ends and the candidate begins, and serves the pieces on Triton.

The packages lie at the top of the repository; the links beside this file make them `cleave.builders`, `cleave.serving`,
`cleave.clients` and `cleave.perf`, so that an installation owns one import name.
"""

DISTRIBUTION = "cleave-ranking"
"""What an installation is called: the name `cleave` on PyPI is another project's."""

EXTRA = "commands"
"""What an installation needs beside a client's packages, so that the command `cleave` runs."""
