"""Sheets of pictures, and letters that fit."""

import pytest
import torch

from vd_core.lettering import break_lines, load_font, measure_line
from vd_core.sheet import PAPER, SMALLEST, draw_sheet, tile_pictures

PICTURES = (torch.randint(0, 256, (5, 3, 32, 80), generator=torch.Generator().manual_seed(0))) / 255
GAP = 160 // 14


def cell(page, row, column, height=64, below=0):
    """Return the picture there, at the size that it had."""
    top, left = GAP + row * (height + GAP) + below, GAP + column * (160 + GAP)
    return page[0, :, top : top + height : 2, left : left + 160 : 2]


def ink(page):
    """How much of it is not paper."""
    return (
        (page - torch.tensor(PAPER).reshape(1, 3, 1, 1) / 255).abs().amax(dim=1).gt(0.1).float().sum().item()
    )


def test_tiles_have_no_gaps_and_a_white_rest():
    page = tile_pictures(PICTURES, 3)
    assert page.shape == (1, 3, 64, 240)
    assert torch.equal(page[0, :, :32, 80:160], PICTURES[1]) and torch.equal(
        page[0, :, 32:, :80], PICTURES[3]
    )
    assert page[0, :, 32:, 160:].eq(1).all()


def test_pictures_stand_in_rows_pixel_by_pixel():
    page = draw_sheet(PICTURES, 3)
    assert page.shape == (1, 3, 2 * 64 + 3 * GAP, 3 * 160 + 4 * GAP)
    for i, picture in enumerate(PICTURES):
        torch.testing.assert_close(cell(page, i // 3, i % 3), picture, atol=1 / 255, rtol=0)
    assert ink(page[..., 64 + 2 * GAP :, 2 * (160 + GAP) :]) == 0  # after the last picture


def test_more_columns_than_pictures_leave_no_empty_paper():
    assert torch.equal(draw_sheet(PICTURES, 64), draw_sheet(PICTURES, 5))


def test_a_label_stands_under_its_own_picture():
    bare, page = draw_sheet(PICTURES[:3], 3), draw_sheet(PICTURES[:3], 3, ["", "yg"])
    assert page.shape[2] > bare.shape[2] and torch.equal(page[:, :, : GAP + 64], bare[:, :, : GAP + 64])
    below = page[:, :, GAP + 64 :]
    columns = [below[..., left : left + 160 + GAP] for left in range(GAP // 2, 3 * (160 + GAP), 160 + GAP)]
    assert [ink(column) > 0 for column in columns] == [False, True, False]
    marks = (columns[1] < 0.5).any(dim=1)[0].any(dim=0).nonzero()
    assert abs((marks.min() + marks.max()).item() / 2 - (160 + GAP) / 2) < 4  # centred
    assert (below[:, :, -3:] == 1).all()  # nothing is cut off at the bottom


def test_a_title_stands_above_and_moves_the_rest_down():
    bare, page = draw_sheet(PICTURES, 3), draw_sheet(PICTURES, 3, title="Title")
    down = page.shape[2] - bare.shape[2]
    assert (
        down > 0
        and torch.equal(page[:, :, down + GAP :], bare[:, :, GAP:])
        and ink(page[:, :, : down + GAP]) > 0
    )


def test_large_pictures_keep_their_size():
    assert draw_sheet(torch.rand(1, 3, SMALLEST, SMALLEST), 1).shape[3] == SMALLEST + 2 * (SMALLEST // 14)


@pytest.mark.parametrize(
    "text", ["a cat", "a very long label with many words in it that go on and on", "Supercalifragilistic" * 6]
)
def test_lines_fit_and_hold_the_text(text):
    letters = load_font(15)
    lines = break_lines(text, letters, 120, most=20)
    assert all(letters.getlength(line) <= 120 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    short = break_lines(text, letters, 120, most=2)
    assert len(short) <= 2 and all(letters.getlength(line) <= 120 for line in short)
    assert len(lines) <= 2 or short[-1].endswith("...")


def test_lines_do_not_touch_each_other():
    for size in (12, 20, 40):
        assert measure_line(load_font(size)) >= load_font(size).getbbox("Ágjy")[3]


def test_what_makes_no_sheet_is_refused():
    with pytest.raises(ValueError, match="6 labels for 5 pictures"):
        draw_sheet(PICTURES, 2, ["x"] * 6)
    with pytest.raises(ValueError, match="at least one column, got 0"):
        draw_sheet(PICTURES, 0)


def test_the_node_takes_one_label_per_line(nodes):
    images = PICTURES.movedim(1, -1)
    page = nodes["VD_Sheet"](image=images, columns=3, labels="one\n\nthree\n\n", title="Title")[0]
    assert torch.equal(page.movedim(-1, 1), draw_sheet(PICTURES, 3, ["one", "", "three"], "Title"))


def test_the_node_lays_a_list_of_pictures_on_one_sheet(nodes):
    images = PICTURES.movedim(1, -1)
    page = nodes["VD_Sheet"](image=list(images.split(2)), columns=3, labels=["one\ntwo"])[0]
    assert torch.equal(page.movedim(-1, 1), draw_sheet(PICTURES, 3, ["one", "two"]))


def test_one_label_for_each_batch_of_a_list_stands_under_all_of_its_pictures(nodes):
    images = PICTURES.movedim(1, -1)
    page = nodes["VD_Sheet"](image=list(images.split(2)), columns=2, labels=["0\n0.5\n1"])[0]
    assert torch.equal(page.movedim(-1, 1), draw_sheet(PICTURES, 2, ["0", "0", "0.5", "0.5", "1"]))


def test_an_empty_list_makes_no_sheet(nodes):
    with pytest.raises(ValueError, match="at least one picture, got an empty list"):
        nodes["VD_Sheet"](image=[])


def test_pictures_of_two_sizes_make_no_sheet(nodes):
    with pytest.raises(ValueError, match="have one size, got 64x48, 32x16: scale them"):
        nodes["VD_Sheet"](image=[torch.zeros(1, 48, 64, 3), torch.zeros(1, 16, 32, 3)])


def test_a_sweep_gives_its_values_one_after_the_other_and_their_labels(nodes):
    assert nodes["VD_Sweep"](values="0, 0.25 1e-3") == ([0.0, 0.25, 0.001], "0\n0.25\n0.001")
    assert nodes["VD_Sweep"]()[0] == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("values", ["", "a", "0 nan", "1 inf", "0 " * 65, "0;1", "0,5", "0,25 0,5"])
def test_values_that_are_no_numbers_are_refused(nodes, values):
    with pytest.raises(ValueError, match="values are 1 to 64 numbers with spaces between"):
        nodes["VD_Sweep"](values=values)
