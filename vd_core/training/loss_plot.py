"""The losses of a run as one picture, drawn from its log by matplotlib."""

from __future__ import annotations

import logging
from pathlib import Path

from ..files import write_whole
from .loop import read_log

log = logging.getLogger(__name__)


def plot_losses(log_path: Path, path: Path) -> None:
    """Draw every loss in a log of JSON lines over the steps; nothing while there are fewer than two records.

    Those on prior pictures are dots in their flow's colour. Without matplotlib a line in the log says so.
    """
    records = read_log(log_path)
    if len(records) < 2:
        return
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.info("%s is drawn with matplotlib: pip install matplotlib", path.name)
        return
    names = sorted({name for record in records for name in record} - {"step", "seconds"})
    flows = sorted({name.removeprefix("prior_") for name in names})
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name in names:
        points = [(record["step"], record[name]) for record in records if name in record]
        color = f"C{flows.index(name.removeprefix('prior_')) % 10}"
        style = "." if name.startswith("prior_") else "-"
        axes.plot(*zip(*points, strict=True), style, color=color, label=name.replace("_", " "))
    axes.set(title="Losses", xlabel="step", ylabel="mean since the last point")
    axes.legend()
    with write_whole(path) as file:
        figure.savefig(file, format="png")
