"""The colours of arms and stages, once for the light page and once for the dark one."""

from __future__ import annotations

from typing import NamedTuple

from cleave.builders.predict.arms import ARMS


class Colour(NamedTuple):
    """`placeholder` is what a plot is drawn with, and what the page replaces by the variable `name`."""

    name: str
    light: str
    dark: str
    placeholder: str


_COLOURS = (
    ("text", "#1f2328", "#e6edf3"),
    ("faint", "#d8dee4", "#3a424c"),
    ("background", "#ffffff", "#15191e"),
    *((arm.name, *arm.colours) for arm in ARMS.values()),
    ("client", "#57606a", "#8b949e"),
    ("network", "#0a7ea4", "#39c5cf"),
    ("queue", "#cf222e", "#ff7b72"),
    ("input", "#bf8700", "#d29922"),
    ("compute", "#0550ae", "#79c0ff"),
    ("output", "#8250df", "#d2a8ff"),
    ("cache", "#1a7f37", "#56d364"),
    ("ensemble", "#bf3989", "#f778ba"),
)

COLOURS = {name: Colour(name, light, dark, f"#0{place:02d}fee") for place, (name, light, dark) in enumerate(_COLOURS)}
"""Every colour of the plots by what it stands for."""


def colour_of(name: str) -> str:
    """What a plot is drawn with for an arm or stage; text's colour for one without its own."""
    return COLOURS.get(name, COLOURS["text"]).placeholder


def with_variables(svg: str) -> str:
    """A drawing whose colours are the page's variables, so that they follow its light or dark scheme."""
    for colour in COLOURS.values():
        svg = svg.replace(colour.placeholder, f"var(--{colour.name})")
    return svg


def style_rules() -> str:
    """The variables, as CSS."""
    light, dark = (
        "".join(f"--{colour.name}:{getattr(colour, scheme)};" for colour in COLOURS.values())
        for scheme in ("light", "dark")
    )
    return f":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
