"""Python-based Triton backends, each a folder that Triton calls by its name."""
