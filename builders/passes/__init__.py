"""Rewrites of an ONNX graph: each takes a model and returns an equal one."""
