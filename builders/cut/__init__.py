"""The cut: labels, boundary, parts, and the proof that they equal the whole."""
