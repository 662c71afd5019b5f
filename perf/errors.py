"""Errors of measurements, worded `<where>: <what>, expected <x>, got <y>; <what to do>`."""


class PerfError(ValueError):
    """A measurement cannot be made as asked."""


class ScoresDifferError(PerfError):
    """Two ways to serve one request give different scores, so comparing their times means nothing: a failed check."""
