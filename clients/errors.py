"""The errors a client raises: the class says whose fault it was."""


class RankerError(Exception):
    """Any failure of a ranking request."""
