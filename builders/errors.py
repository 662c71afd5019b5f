"""Errors of the build, worded `<where>: <what>, expected <x>, got <y>; <what to do>`."""


class BuilderError(ValueError):
    """The user gave something that cannot be built."""


class CheckError(BuilderError):
    """What was built is not what it should be: a check failed, nothing was used wrongly."""


class SpecError(BuilderError):
    """A spec that contradicts itself."""
