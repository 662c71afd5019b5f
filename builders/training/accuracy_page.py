"""Writes what `cleave evaluate` found: a page with tables, and a picture of accuracy against cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cleave.builders.files import write_text
from cleave.builders.formatting import byte_quantity, markdown_table, quantity
from cleave.builders.predict.arms import TRITON_ARMS
from cleave.builders.training.accuracy import Accuracy, Row
from cleave.builders.training.train import TrainSettings
from cleave.builders.training.tune import GRID, TuningTrial, best_trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE, PICTURE = "accuracy.md", "accuracy.svg"


def write_page(found: Accuracy, trials: list[TuningTrial], folder: Path, command: str) -> None:
    """Write `accuracy.md` and `accuracy.svg` into the folder."""
    write_picture(found, folder / PICTURE)
    write_text(folder / PAGE, page(found, trials, command))


def table(found: Accuracy) -> str:
    """The table of models as Markdown: accuracy over the seeds, and the cost of one request."""
    head = ["model", "test AUC", "NE", "parameters", *(f"{arm}, FLOPs" for arm in TRITON_ARMS), "summary"]
    rows = []
    for row in found.rows:
        kept = row.costs.summary_bytes
        cells = [
            row.model,
            f"{row.mean('test_auc'):.4f} ± {row.deviation('test_auc'):.4f}",
            f"{row.mean('test_ne'):.4f} ± {row.deviation('test_ne'):.4f}",
            f"{row.runs[0].parameters:,}",
            *(quantity(row.costs.flops[arm]) if arm in row.costs.flops else "-" for arm in TRITON_ARMS),
            "-" if kept is None else byte_quantity(kept),
        ]
        rows.append(cells)
    return markdown_table(head, rows)


def page(found: Accuracy, trials: list[TuningTrial], command: str) -> str:
    """The text of `accuracy.md`."""
    seeds = len(found.rows[0].runs)
    request = ", ".join(f"{size:,} {axis}" for axis, size in found.request.items())
    return f"""# Accuracy

Written by

    {command}

Every model is trained on {found.data} with the same loop and the same budget (`builders/training/train.py`); {seeds}
seeds. The test part is the last tenth of each user's ratings in time order, each scored with exactly the history before
it; the label is a rating of at least 4 stars. NE is the log loss over the entropy of the part's own base rate: below 1
is better than knowing that rate alone. A mean is followed by the standard deviation over the seeds. FLOPs and bytes are
those of one request ({request}), as `cleave inspect` counts them; concat's shorter candidate axis takes
several calls, which add up to the same.

{table(found)}

![Test AUC against FLOPs of a request]({PICTURE})

Each model is a line with a mark at the FLOPs of each arm: {_marks_text()}. The accuracy is the same in every arm,
because the cut changes no score.

## Differences from append

{_differences(found)}

## What was tried

`cleave tune` looked at the validation part only, with seed 0: {_grid_text()};
in this order, each starting from the best of those before it. A model without trials here has the defaults: learning
rate {TrainSettings().learning_rate:g} and the sizes of its function in `builders/zoo`.

{_trials_table(found, trials)}
"""


def _marks_text() -> str:
    return ", ".join(f"`{arm.name}` ({arm.shape})" for arm in TRITON_ARMS.values())


def _differences(found: Accuracy) -> str:
    reference = next((row for row in found.rows if row.model == "append"), found.rows[0])
    others = [row for row in found.rows if row is not reference]
    rows = ([row.model, f"{row.mean('test_auc') - reference.mean('test_auc'):+.4f}"] for row in others)
    return markdown_table(["model", f"test AUC less that of {reference.model}"], rows)


def _grid_text() -> str:
    return "; ".join(
        f"{name.replace('_', ' ')} {' or '.join(f'{value:g}' for value in values)}" for name, values in GRID.items()
    )


def _trials_table(found: Accuracy, trials: list[TuningTrial]) -> str:
    head = ["model", *(name.replace("_", " ") for name in GRID), "validation AUC", "NE", "best epoch"]
    rows = []
    for row in found.rows:
        best = best_trial(row.model, trials)
        for trial in (trial for trial in trials if trial.model == row.model):
            auc = f"{trial.validation_auc:.4f}"
            choices = (f"{getattr(trial, name):g}" for name in GRID)
            shown = f"**{auc}**" if trial is best else auc
            rows.append([trial.model, *choices, shown, f"{trial.validation_ne:.4f}", str(trial.best_epoch)])
    return markdown_table(head, rows)


def write_picture(found: Accuracy, file: Path) -> None:
    """Test AUC against the FLOPs of a request as SVG: for each model a line from its dearest to its cheapest arm."""
    import matplotlib  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    with matplotlib.rc_context({"svg.hashsalt": "cleave", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(found.rows):
            _draw(axes, row, f"C{place}")
        axes.set_xscale("log")
        request = ", ".join(f"{size:,} {axis}" for axis, size in found.request.items())
        axes.set_xlabel(f"FLOPs of a request ({request})")
        axes.set_ylabel(f"test AUC on {found.data}")
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, metadata={"Date": None})


def _draw(axes: Axes, row: Row, color: str) -> None:
    auc = row.mean("test_auc")
    flops = row.costs.flops
    axes.errorbar(
        min(flops.values()), auc, yerr=row.deviation("test_auc"), color=color, capsize=3, fmt="none", linewidth=1
    )
    axes.plot([min(flops.values()), max(flops.values())], [auc, auc], color=color, linewidth=1.5, label=row.model)
    for arm, count in flops.items():
        axes.plot(count, auc, TRITON_ARMS[arm].marker, color=color, markersize=5)
