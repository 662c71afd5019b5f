"""A Triton server of this machine: found, started, watched, stopped."""
