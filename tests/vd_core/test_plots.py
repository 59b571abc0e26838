"""Curves and heat maps: values lie where the axes say, colours mean what the bar says, letters fit."""

import pytest
import torch

from vd_core.lettering import load_font
from vd_core.plots import (
    COLORS,
    PAPER,
    SIZE,
    VIRIDIS,
    Curve,
    choose_ticks,
    color_values,
    draw_heat_map,
    find_bounds,
    plot,
    write_number,
)

BLUE, RED = COLORS[0], COLORS[1]


def pixel(picture, at):
    """Return the colour at a place, 0..255."""
    x, y = (round(side) for side in at)
    return (picture[0, :, y, x] * 255).round().int().tolist()


def near(picture, at, color, radius=1):
    """Whether a colour is there, or beside."""
    x, y = (round(side) for side in at)
    around = picture[0, :, y - radius : y + radius + 1, x - radius : x + radius + 1] * 255
    return bool((around - torch.tensor(color).reshape(3, 1, 1)).abs().amax(dim=0).min() < 40)


def ink_box(picture):
    """Left, top, right and bottom of what is not paper."""
    marks = (picture[0] - torch.tensor(PAPER).reshape(3, 1, 1) / 255).abs().amax(dim=0) > 0.1
    rows, columns = marks.any(dim=1).nonzero(), marks.any(dim=0).nonzero()
    return columns.min().item(), rows.min().item(), columns.max().item(), rows.max().item()


@pytest.mark.parametrize(
    "low, high", [(0, 1), (-6.9, 7.1), (0, 999), (0.43, 0.71), (-3e-4, 5e-4), (12, 12.5)]
)
def test_ticks_are_round_even_and_inside(low, high):
    values = choose_ticks(low, high)
    assert 3 <= len(values) <= 9 and low <= values[0] and values[-1] <= high
    steps = torch.tensor(values, dtype=torch.float64).diff()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=1e-6, atol=0)
    assert f"{steps[0]:.0e}"[0] in "125" and values[0] - steps[0] < low and values[-1] + steps[0] > high
    assert all(len(write_number(value)) < 8 for value in values)


def test_an_axis_needs_a_range():
    with pytest.raises(ValueError, match="from a lower to a higher value, got 1 to 1"):
        choose_ticks(1, 1)
    assert find_bounds([0, 2]) == (0.0, 2.1) and find_bounds([3, 3]) == pytest.approx((2.45, 3.55))


def test_a_curve_goes_through_its_values():
    xs = [i / 50 for i in range(51)]
    picture, axes = plot([Curve("square", xs, [x * x for x in xs])], "A parabola", "x", "x squared")
    assert picture.shape == (1, 3, SIZE[1], SIZE[0])
    for x in (0.1, 0.35, 0.5, 0.72, 0.9):
        assert near(picture, axes.at(x, x * x), BLUE)
        assert not near(picture, axes.at(x, x * x + 0.15), BLUE) and not near(
            picture, axes.at(x, x * x - 0.06), BLUE
        )


def test_dots_stand_at_their_values_and_bars_rise_from_zero():
    picture, axes = plot(
        [Curve("a", [1, 2, 3], [2.0, 1.0, 3.0], "bars"), Curve("b", [1, 2, 3], [1.0, 2.0, 1.5], "dots", RED)],
        "",
        "x",
        "y",
    )
    for x, bar, dot in ((1, 2.0, 1.0), (2, 1.0, 2.0), (3, 3.0, 1.5)):
        assert pixel(picture, axes.at(x, dot)) == list(RED)
        assert pixel(picture, axes.at(x - 0.3, bar - 0.1)) == list(BLUE) and pixel(
            picture, axes.at(x - 0.3, 0.1)
        ) == list(BLUE)
        assert pixel(picture, axes.at(x - 0.3, bar + 0.1)) != list(BLUE)


def test_the_given_range_is_that_of_the_axis():
    _, axes = plot([Curve("a", [0, 1], [0.2, 0.3])], "", "x", "y", y=(0.0, 2.0))
    assert axes.y == (0.0, 2.0) and axes.x == (0, 1)
    assert axes.at(0, 0) == (axes.left, axes.bottom) and axes.at(1, 2) == (axes.right, axes.top)


def test_a_legend_names_the_curves_that_have_a_name():
    lines = [Curve(name, [0, 1], [0, 1], color=color) for name, color in (("one", BLUE), ("two", RED))]
    named, axes = plot(lines, "", "x", "y")
    nameless, _ = plot([lines[0], Curve("", [0, 1], [0, 1], color=RED)], "", "x", "y")

    def shows(picture, color):
        head = picture[0, :, : int(axes.top) - 4] * 255
        return bool(((head - torch.tensor(color).reshape(3, 1, 1)).abs().amax(dim=0) < 10).any())

    assert shows(named, BLUE) and shows(named, RED) and shows(nameless, BLUE) and not shows(nameless, RED)


def test_nothing_is_cut_off():
    """Long numbers, long titles and many curves leave paper at every edge."""
    curves = [
        Curve(f"a curve with a long name, number {i}", [0, 1000], [-0.00123 * i, 0.00456])
        for i in range(1, 5)
    ]
    picture, _ = plot(
        curves,
        "A very long title that needs more than one line of this picture, and then some words",
        "x",
        "a name of an axis",
    )
    maps = [draw_heat_map(torch.rand(120, 7) * 1e-3, "A title of a map", "columns", "rows")[0]]
    maps += [
        draw_heat_map(
            torch.rand(4, 4),
            "A long title over a small map, longer than it",
            "below",
            "",
            over=torch.rand(3, 32, 32),
        )[0]
    ]
    for page in (picture, *maps):
        left, top, right, bottom = ink_box(page)
        assert left >= 2 and top >= 2 and right <= page.shape[3] - 3 and bottom <= page.shape[2] - 3


def test_colours_run_from_the_lowest_to_the_highest_and_grow_lighter():
    shades = color_values(torch.linspace(-1, 1, 50), -1, 1)
    torch.testing.assert_close(shades[[0, -1]] * 255, torch.tensor([VIRIDIS[0], VIRIDIS[-1]]).float())
    lightness = shades @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (lightness.diff() > 0).all()
    assert torch.equal(color_values(torch.tensor([5.0]), -1, 1), shades[-1:])


def test_each_cell_has_the_colour_of_its_number():
    values = torch.tensor([[0.0, 0.25, 0.5], [1.0, 0.75, 0.1]])
    picture, axes = draw_heat_map(values, "A map", "columns", "rows")
    for row in range(2):
        for column in range(3):
            wanted = (color_values(values[row, column], 0, 1) * 255).round().int().tolist()
            assert pixel(picture, axes.at(column + 0.5, row + 0.5)) == pytest.approx(wanted, abs=1)


def test_cells_over_a_picture_keep_its_proportions_and_let_it_shine_through():
    values = torch.tensor([[0.0, 1.0], [0.5, 0.2]])
    dark, axes = draw_heat_map(values, "", "", "", over=torch.zeros(3, 16, 16))
    light, _ = draw_heat_map(values, "", "", "", over=torch.ones(3, 16, 16))
    assert axes.right - axes.left == pytest.approx(axes.bottom - axes.top)
    for row in range(2):
        for column in range(2):
            color = color_values(values[row, column], 0, 1) * 0.6 * 255
            at = axes.at(column + 0.5, row + 0.5)
            assert pixel(dark, at) == pytest.approx(color.tolist(), abs=2)
            assert pixel(light, at) == pytest.approx((color + 0.4 * 255).tolist(), abs=2)


def test_all_numbers_alike_make_a_map_too():
    picture, axes = draw_heat_map(torch.zeros(3, 3), "", "", "")
    assert pixel(picture, axes.at(1.5, 1.5)) == pytest.approx(
        (color_values(torch.tensor(0.0), -0.5, 0.5) * 255).round().int().tolist(), abs=1
    )


def test_the_font_has_the_letters_that_are_used():
    letters = load_font(20)
    missing = bytes(letters.getmask("\uffff"))
    for letter in "abcxyzABC0123456789.,:;()|_^/%=-+'":
        assert bytes(letters.getmask(letter)) != missing, letter
