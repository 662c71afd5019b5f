"""The store of summaries: embedded, or named by a URL."""
