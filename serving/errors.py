"""Errors of starting and configuring servers, worded `<where>: <what>, expected <x>, got <y>; <what to do>`."""


class ServingError(ValueError):
    """The server cannot be started as asked."""
