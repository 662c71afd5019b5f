"""Model files as a user writes them, and what to forget after a test that imported one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODEL = """
from torch import nn
from cleave.builders import Axis, Ranker, Tensor
{more}

class Model(nn.Module):
    def forward(self, events, items):
        {forward}

history = Axis("history", min=1, opt=2, max=3)
candidates = Axis("candidates", min=1, opt=2, max=3)
ranker = Ranker(
    name="mine",
    module=Model(),
    user=(Tensor("events", "int64", (history,)),),
    candidate=(Tensor("items", "int64", (candidates,)),),
    output=(Tensor("scores", "float32", (candidates,)),),
)
nothing = None
"""
LINE_OF_MORE, LINE_OF_FORWARD = 4, 8

SUM = "return items.float() + events.float().sum(1, keepdim=True)"


def write_model(file: Path, more: str = "", forward: str = SUM) -> Path:
    """A file with the attribute `ranker`; `more` and `forward` are one line each."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(MODEL.format(more=more, forward=forward))
    return file


@contextmanager
def forgotten_imports(folder: Path) -> Iterator[None]:
    """Afterwards nothing is imported from the folder, and what was imported is again as it was before."""
    finders, modules = list(sys.meta_path), dict(sys.modules)
    yield
    sys.meta_path[:] = finders
    for name, module in list(sys.modules.items()):
        if str(folder) in str(getattr(module, "__file__", None)):
            del sys.modules[name]
    sys.modules.update({name: module for name, module in modules.items() if name not in sys.modules})
