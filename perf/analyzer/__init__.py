"""perf_analyzer: finding it, running it, and reading its output."""
