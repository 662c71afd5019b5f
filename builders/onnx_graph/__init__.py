"""What is known of ONNX graphs, whatever they compute: sizes, edits, runs, comparisons."""
