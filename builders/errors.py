"""Errors of the build, worded `<where>: <what>, expected <x>, got <y>; <what to do>`."""


class BuilderError(ValueError):
    """The user gave something that cannot be built."""


class SpecError(BuilderError):
    """A spec that contradicts itself."""
