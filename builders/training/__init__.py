"""Trains the zoo's models on MovieLens and compares how accurate they are; no other ranker is trained here."""
