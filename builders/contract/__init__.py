"""What a build promises to servers and clients: names, signature, manifest; without torch and without ONNX."""
