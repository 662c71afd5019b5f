"""Errors of measuring, worded `<where>: <what>, expected <x>, got <y>; <what to do>`."""


class PerfError(ValueError):
    """A measurement that cannot be made as asked."""


class ParityError(PerfError):
    """Two arms give different scores, so their times mean nothing: a check that failed."""
