from __future__ import annotations

import argparse
from typing import Any

import pytest

from cleave.serving.commands import add_commands
from cleave.serving.errors import ServingError
from cleave.serving.limits import Limits


def test_a_server_hands_its_limits_on() -> None:
    limits = Limits(max_queue=3, max_encodings=1)
    assert Limits.from_environment(limits.variables()) == limits
    assert Limits.from_environment({}) == Limits()


@pytest.mark.parametrize("value", [0, -1, 1.5, "1", True, None])
def test_what_is_no_limit_is_refused_by_its_flag(value: Any) -> None:
    with pytest.raises(ServingError, match=f"--max-queue: expected a whole number of at least 1, got {value!r}; "):
        Limits(max_queue=value)


@pytest.mark.parametrize("text", ["", "1", "{", '{"max_users_at_home": 1}'])
def test_what_no_server_wrote_is_refused(text: str) -> None:
    with pytest.raises(ServingError, match=r"^\$CLEAVE_LIMITS: expected the limits that `cleave serve` writes, got"):
        Limits.from_environment({"CLEAVE_LIMITS": text})


def test_every_limit_is_a_flag_of_serve() -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    options = vars(parser.parse_args(["serve", "append"]))
    assert {name: options[name] for name in vars(Limits())} == vars(Limits())
