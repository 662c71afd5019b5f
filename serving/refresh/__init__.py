"""Keeps summaries fresh, off the request path."""
