"""gRPC clients of a served ranker; needs numpy and tritonclient only."""
