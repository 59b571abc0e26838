"""Small pictures of numbers: curves and heat maps with axes, ticks and labels, drawn by Pillow alone.

Everything is drawn `SCALE` times as large and scaled down, which smooths all edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .lettering import break_lines, load_font, measure_line

SCALE = 3
INK, PAPER, GRID, FRAME = (38, 38, 42), (255, 255, 255), (228, 228, 232), (120, 120, 126)
# of Okabe and Ito: the colour-blind can tell them apart
COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
VIRIDIS = (
    (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142),
    (31, 158, 137), (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37),
)  # fmt: skip
SIZE = (640, 420)
TEXT, HEADING, MARGIN = 15, 20, 16


@dataclass(frozen=True)
class Curve:
    """Numbers to plot; without a name it is not in the legend. style: "line", "dots" or "bars" (from zero).
    x, y: of one length.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "line"
    color: tuple[int, int, int] = COLORS[0]


class Axes(NamedTuple):
    """Where values lie in a picture: the box of the plot in pixels, and the values at its edges."""

    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Locate the pixel (across, down) of a value."""
        (x0, x1), (y0, y1) = self.x, self.y
        across = self.left + (x - x0) / (x1 - x0) * (self.right - self.left)
        return across, self.bottom - (y - y0) / (y1 - y0) * (self.bottom - self.top)


def choose_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Choose round numbers (1, 2 or 5 times a power of ten apart) from low to high, about so many.

    Raises ValueError unless low < high.
    """
    if not low < high:
        raise ValueError(f"An axis goes from a lower to a higher value, got {low} to {high}.")
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.7)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def write_number(value: float) -> str:
    """Write the number of a tick."""
    return f"{value:g}"


def find_bounds(values: Sequence[float], room: float = 0.05) -> tuple[float, float]:
    """Find the range of an axis: all finite values with some room, exactly 0 where none is below it."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    space = room * (high - low)
    return (0.0 if low == 0 else low - space), high + space


class Page:
    """A sheet of paper to draw on, in units of the finished picture."""

    def __init__(self, size: tuple[int, int]):
        self.size = size
        self.image = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), PAPER)
        self.pen = ImageDraw.Draw(self.image)

    def line(
        self, points: Sequence[tuple[float, float]], color: tuple[int, int, int], width: float = 1
    ) -> None:
        """Connect points by a line."""
        self.pen.line(
            [(x * SCALE, y * SCALE) for x, y in points], color, max(1, round(width * SCALE)), joint="curve"
        )

    def box(self, left: float, top: float, right: float, bottom: float, fill=None, outline=None) -> None:
        """Draw a rectangle, filled, outlined or both."""
        self.pen.rectangle([round(side * SCALE) for side in (left, top, right, bottom)], fill, outline, SCALE)

    def dot(self, at: tuple[float, float], radius: float, color: tuple[int, int, int]) -> None:
        """Draw a filled circle around a point."""
        (x, y), r = at, radius * SCALE
        self.pen.ellipse([x * SCALE - r, y * SCALE - r, x * SCALE + r, y * SCALE + r], color)

    def text(self, at: tuple[float, float], text: str, anchor: str, size: int = TEXT) -> None:
        """Write a line of letters; anchor: which part of it is there, "l", "m" or "r" across and "t", "m" or
        "b" down."""
        letters = load_font(size * SCALE)
        (x, y), width, height = at, letters.getlength(text), measure_line(letters)
        left = x * SCALE - width * {"l": 0, "m": 0.5, "r": 1}[anchor[0]]
        self.pen.text((left, y * SCALE - height * {"t": 0, "m": 0.5, "b": 1}[anchor[1]]), text, INK, letters)

    def write_upright(self, at: tuple[float, float], text: str) -> None:
        """Write a line of letters that runs upwards, centred at a point."""
        letters = load_font(TEXT * SCALE)
        strip = Image.new("RGB", (math.ceil(letters.getlength(text)), measure_line(letters)), PAPER)
        ImageDraw.Draw(strip).text((0, 0), text, INK, letters)
        strip = strip.rotate(90, expand=True)
        self.image.paste(
            strip, (round(at[0] * SCALE - strip.width / 2), round(at[1] * SCALE - strip.height / 2))
        )

    def finish(self, width: float | None = None) -> Tensor:
        """Return the picture, [1, 3, H, W]; width: how much of it is needed, all if None."""
        size = (self.size[0] if width is None else min(self.size[0], math.ceil(width)), self.size[1])
        small = np.asarray(
            self.image.crop((0, 0, size[0] * SCALE, size[1] * SCALE)).resize(size, Image.Resampling.BOX)
        )
        return torch.from_numpy(small.copy()).permute(2, 0, 1)[None].float() / 255


def measure_width(text: str) -> float:
    """Measure the pixels that a text takes."""
    return load_font(TEXT * SCALE).getlength(text) / SCALE


def write_title(page: Page, title: str) -> float:
    """Write a title at the top; returns where the space below it begins."""
    lines = break_lines(title, load_font(HEADING * SCALE), (page.size[0] - 2 * MARGIN) * SCALE)
    height = measure_line(load_font(HEADING * SCALE)) / SCALE
    for number, line in enumerate(lines):
        page.text((MARGIN, MARGIN / 2 + number * height), line, "lt", HEADING)
    return MARGIN + len(lines) * height


def plot_axes(
    curves: Sequence[Curve], top: float, size: tuple[int, int], y: tuple[float, float] | None
) -> Axes:
    """Place the axes of a plot of these curves below `top`, with room for the numbers at its left."""
    finite = [value for curve in curves for value in curve.y if math.isfinite(value)]
    xs = [value for curve in curves for value in curve.x]
    bars = 0.5 if any(curve.style == "bars" for curve in curves) else 0.0
    low, high = find_bounds([*finite, 0.0] if bars else finite) if y is None else y
    across = (min(xs) - bars, max(xs) + bars) if min(xs) < max(xs) or bars else (min(xs) - 0.5, max(xs) + 0.5)
    numbers = max(measure_width(write_number(tick)) for tick in choose_ticks(low, high))
    left = MARGIN + measure_line(load_font(TEXT)) + numbers + 10
    return Axes(
        left,
        top,
        size[0] - MARGIN - 6,
        size[1] - MARGIN - 2 * measure_line(load_font(TEXT)) - 6,
        across,
        (low, high),
    )


def plot(
    curves: Sequence[Curve],
    title: str,
    x_label: str,
    y_label: str,
    y: tuple[float, float] | None = None,
    size: tuple[int, int] = SIZE,
) -> tuple[Tensor, Axes]:
    """Plot curves over shared axes with a legend: the picture [1, 3, H, W] in 0..1, and where values lie in
    it.

    y: the range of the vertical axis; None = that of the values.
    """
    page = Page(size)
    top = write_legend(page, curves, write_title(page, title))
    axes = plot_axes(curves, top, size, y)
    draw_frame(page, axes, x_label, y_label)
    for curve in curves:
        draw_curve(page, axes, curve)
    return page.finish(), axes


def write_legend(page: Page, curves: Sequence[Curve], top: float) -> float:
    """Write the names of the curves in a row; returns where the space below begins."""
    x, height = float(MARGIN), measure_line(load_font(TEXT))
    for curve in (curve for curve in curves if curve.name):
        if x > MARGIN and x + 32 + measure_width(curve.name) > page.size[0] - MARGIN:
            x, top = MARGIN, top + height
        middle = (x + 11, top + height * 0.45)
        if curve.style == "line":
            page.line([(x, middle[1]), (x + 22, middle[1])], curve.color, 2.5)
        elif curve.style == "dots":
            page.dot(middle, 3.5, curve.color)
        else:
            page.box(x + 3, middle[1] - 5, x + 19, middle[1] + 5, fill=curve.color)
        page.text((x + 28, top), curve.name, "lt")
        x += 28 + measure_width(curve.name) + 22
    return top + height + 8


def draw_frame(page: Page, axes: Axes, x_label: str, y_label: str) -> None:
    """Draw grid, ticks, numbers and names of the axes."""
    for value in choose_ticks(*axes.y):
        _, y = axes.at(axes.x[0], value)
        page.line([(axes.left, y), (axes.right, y)], FRAME if value == 0 else GRID)
        page.text((axes.left - 7, y), write_number(value), "rm")
    for value in choose_ticks(*axes.x):
        x, _ = axes.at(value, axes.y[0])
        page.line([(x, axes.bottom), (x, axes.bottom + 4)], FRAME)
        page.text((x, axes.bottom + 6), write_number(value), "mt")
    page.line([(axes.left, axes.top), (axes.left, axes.bottom), (axes.right, axes.bottom)], FRAME)
    page.text(((axes.left + axes.right) / 2, page.size[1] - MARGIN / 2), x_label, "mb")
    page.write_upright(
        (MARGIN / 2 + measure_line(load_font(TEXT)) / 2, (axes.top + axes.bottom) / 2), y_label
    )


def draw_curve(page: Page, axes: Axes, curve: Curve) -> None:
    """Draw one curve."""
    points = [axes.at(x, y) for x, y in zip(curve.x, curve.y, strict=True)]
    if curve.style == "line":
        page.line(points, curve.color, 2)
    for x, y in points if curve.style == "dots" else ():
        page.dot((x, y), 3.2, curve.color)
    half = 0.4 * (axes.right - axes.left) / (axes.x[1] - axes.x[0])
    _, zero = axes.at(axes.x[0], max(0.0, axes.y[0]))
    for x, y in points if curve.style == "bars" else ():
        page.box(x - half, min(y, zero), x + half, max(y, zero), fill=curve.color)


def color_values(values: Tensor, low: float, high: float) -> Tensor:
    """Colour numbers of any shape between low (dark blue) and high (yellow), [..., 3] in 0..1."""
    anchors = torch.tensor(VIRIDIS) / 255
    place = ((values.float().cpu() - low) / (high - low)).clamp(0, 1) * (len(anchors) - 1)
    below = place.floor().long().clamp(max=len(anchors) - 2)
    return torch.lerp(anchors[below], anchors[below + 1], (place - below)[..., None])


def draw_heat_map(
    values: Tensor,
    title: str,
    x_label: str,
    y_label: str,
    over: Tensor | None = None,
    size: tuple[int, int] = SIZE,
) -> tuple[Tensor, Axes]:
    """Draw numbers [rows, columns] as colours with a colour bar: the picture [1, 3, H, W], and where cells
    lie.

    Column c lies from c to c + 1, row r from r to r + 1, counted from the top.

    over: a picture [3, h, w] in 0..1 that shines through in grey; cells keep its proportions.
    """
    page, (rows, columns) = Page(size), values.shape
    low, high = float(values.min()), float(values.max())
    low, high = (low, high) if low < high else (low - 0.5, high + 0.5)
    top, row = write_title(page, title), measure_line(load_font(TEXT))
    bar = max(measure_width(write_number(tick)) for tick in choose_ticks(low, high)) + 44
    numbers = measure_width(str(rows)) + 10 if over is None else 0
    left, bottom = MARGIN + row + numbers, size[1] - MARGIN - (2 * row + 6 if over is None else row)
    width, height = size[0] - left - bar - MARGIN, bottom - top
    side = min(width / columns, height / rows)
    width, height = (width, height) if over is None and rows != columns else (side * columns, side * rows)
    axes = Axes(left, top, left + width, top + height, (0, columns), (rows, 0))
    pixels = color_values(values, low, high)
    if over is not None:
        pixels = overlay_cells(pixels, over)
    cells = Image.fromarray((pixels * 255).round().to(torch.uint8).numpy())
    where = [round(edge * SCALE) for edge in (axes.left, axes.top, axes.right, axes.bottom)]
    page.image.paste(
        cells.resize((where[2] - where[0], where[3] - where[1]), Image.Resampling.NEAREST),
        (where[0], where[1]),
    )
    if over is None:
        number_cells(page, axes, x_label, y_label)
    else:
        page.text(((axes.left + axes.right) / 2, axes.bottom + 6), x_label, "mt")
    draw_color_bar(page, Axes(axes.right + 18, top, axes.right + 32, axes.bottom, (0, 1), (low, high)))
    needed = (
        max(axes.right + bar, MARGIN + min(measure_width(title) * HEADING / TEXT, size[0] - 2 * MARGIN))
        + MARGIN
    )
    return page.finish(needed), axes


def overlay_cells(pixels: Tensor, picture: Tensor, share: float = 0.6) -> Tensor:
    """Lay colours of cells [rows, columns, 3] over a grey picture [3, h, w], whole pixels per cell."""
    rows, columns, _ = pixels.shape
    factor = max(1, -(-picture.shape[1] // rows), -(-picture.shape[2] // columns))
    grey = torch.nn.functional.interpolate(
        picture.mean(dim=0)[None, None].float().cpu(), (rows * factor, columns * factor), mode="bilinear"
    )
    large = pixels.repeat_interleave(factor, dim=0).repeat_interleave(factor, dim=1)
    return torch.lerp(grey[0, 0, ..., None].expand_as(large), large, share)


def number_cells(page: Page, axes: Axes, x_label: str, y_label: str) -> None:
    """Write the numbers of columns below and of rows at the left, and the names of both."""
    for value in choose_ticks(0, axes.x[1] - 1) if axes.x[1] > 1 else [0.0]:
        x, _ = axes.at(value + 0.5, 0)
        page.text((x, axes.bottom + 4), write_number(value), "mt")
    for value in choose_ticks(0, axes.y[0] - 1) if axes.y[0] > 1 else [0.0]:
        _, y = axes.at(0, value + 0.5)
        page.text((axes.left - 6, y), write_number(value), "rm")
    page.text(((axes.left + axes.right) / 2, axes.bottom + 6 + measure_line(load_font(TEXT))), x_label, "mt")
    page.write_upright(
        (MARGIN / 2 + measure_line(load_font(TEXT)) / 2, (axes.top + axes.bottom) / 2), y_label
    )


def draw_color_bar(page: Page, axes: Axes) -> None:
    """Draw the bar that says what the colours mean."""
    low, high = axes.y
    shades = color_values(torch.linspace(high, low, 256)[:, None], low, high)
    where = [round(edge * SCALE) for edge in (axes.left, axes.top, axes.right, axes.bottom)]
    image = Image.fromarray((shades * 255).round().to(torch.uint8).numpy())
    page.image.paste(image.resize((where[2] - where[0], where[3] - where[1])), (where[0], where[1]))
    for value in choose_ticks(low, high):
        _, y = axes.at(0, value)
        page.line([(axes.right, y), (axes.right + 4, y)], FRAME)
        page.text((axes.right + 8, y), write_number(value), "lm")
