"""One run of a benchmark: plans and measurements of arms, counters, parity."""
