"""The model repository as Triton reads it, whatever the engine."""
