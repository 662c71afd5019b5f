"""perf_analyzer: where it is, how it is run, what it prints."""
