"""The proof of a cut: whatever is served gives the scores of the torch module, or the build fails."""
