"""ONNX Runtime, which runs the graphs of a cut as they are."""
