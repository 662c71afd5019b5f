"""Keeps the summaries of users between requests."""
