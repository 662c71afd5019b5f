"""One run of a benchmark: servers, turns of the arms, counters, parity."""
