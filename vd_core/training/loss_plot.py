"""The losses of a run as one picture, drawn from its log."""

from __future__ import annotations

import json
import math
from pathlib import Path

from PIL import Image, ImageDraw

SIZE, MARGIN = (900, 500), 60
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe & Ito: told apart by everyone


def loss_plot(log: Path, path: Path) -> None:
    """Draw every loss in a log of JSON lines over the steps, on a logarithmic scale; nothing while there are fewer than two records."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name in record.keys() - {"step", "seconds"}:
            if record[name] > 0:
                curves.setdefault(name, []).append((record["step"], math.log10(record[name])))
    points = [point for curve in curves.values() for point in curve]
    if len(records) < 2 or not points:
        return
    (left, right), (low, high) = ((min(values), max(values)) for values in zip(*points, strict=True))
    low, high = math.floor(low * 10) / 10, math.ceil(high * 10 + 0.01) / 10
    width, height = SIZE

    def at(step: float, value: float) -> tuple[float, float]:
        x = MARGIN + (step - left) / max(right - left, 1) * (width - 2 * MARGIN)
        return x, height - MARGIN - (value - low) / (high - low) * (height - 2 * MARGIN)

    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    for part in range(5):
        value, step = low + (high - low) * part / 4, left + (right - left) * part / 4
        draw.line([at(left, value), at(right, value)], fill="#dddddd")
        draw.text((8, at(left, value)[1] - 6), f"{10**value:.3g}", fill="black")
        draw.text((at(step, low)[0] - 12, height - MARGIN + 8), f"{step:.0f}", fill="black")
    for (name, curve), color, row in zip(sorted(curves.items()), COLORS * 9, range(99), strict=False):
        places = [at(*point) for point in curve]
        draw.line(places if len(places) > 1 else places * 2, fill=color, width=2)
        draw.text((width - MARGIN - 130, MARGIN / 2 + 14 * row), name, fill=color)
    picture.save(path)
