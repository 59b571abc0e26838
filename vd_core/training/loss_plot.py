"""The losses of a run as one picture, drawn from its log."""

from __future__ import annotations

import json
from pathlib import Path

from ..files import write_whole
from ..pictures import to_pil
from ..plots import COLORS, Curve, plot


def loss_plot(log: Path, path: Path) -> None:
    """Draw every loss in a log of JSON lines over the steps; nothing while there are fewer than two records.

    Those on prior pictures are dots in their flow's colour.
    """
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    if len(records) < 2:
        return
    names = sorted({name for record in records for name in record} - {"step", "seconds"})
    flows = sorted({name.removeprefix("prior_") for name in names})
    curves = []
    for name in names:
        steps, values = zip(*((record["step"], record[name]) for record in records if name in record), strict=True)
        style, color = "dots" if name.startswith("prior_") else "line", COLORS[flows.index(name.removeprefix("prior_")) % len(COLORS)]
        curves.append(Curve(name.replace("_", " "), steps, values, style, color))
    picture, _ = plot(curves, "Losses", "step", "mean since the last point")
    with write_whole(path) as file:
        to_pil(picture)[0].save(file, "PNG")
