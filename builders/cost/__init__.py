"""FLOPs, bytes and memory of a graph, as functions of the axes."""
