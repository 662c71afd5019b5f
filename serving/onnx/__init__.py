"""ONNX Runtime behind Triton's Python backend: one model, one batch, one run."""
