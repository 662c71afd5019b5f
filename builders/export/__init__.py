"""From a ranker to the ONNX graph of the whole model."""
