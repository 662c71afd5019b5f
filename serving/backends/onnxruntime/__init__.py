"""Stands in for Triton's official onnxruntime backend where that is not installed."""
