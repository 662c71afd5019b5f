"""Triton: the server process and the backends it loads."""
