"""The summary cache: its policy, its store, and what it keeps."""
