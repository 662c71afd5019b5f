"""The cut of a graph into parts that run for the user, for the item and for both, and the proof that it is right."""
