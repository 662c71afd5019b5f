"""Runs code that is the user's: imports his model files and calls his modules, and says which line of his failed."""
