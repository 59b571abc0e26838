"""Training of the small CLIP: what its pictures go through, what closed forms teach it, and that it
learns."""

import copy
import math

import pytest
import torch
from torch import nn

from vd_core.encoders.clip import normalise
from vd_core.training.clip import (
    ContrastiveClip,
    Texts,
    compute_positions,
    contrastive_losses,
    distort,
    draw_in_ink,
    measure_retrieval,
    mix_halves,
    recolour,
)
from vd_core.training.dataset import CaptionedPictures, write_caption
from vd_core.training.outlines import NameSpace, compute_outlines, compute_surfaces

AXIS = torch.linspace(-1, 1, 56)
X, Y = AXIS.expand(56, 56), AXIS[:, None].expand(56, 56)


@pytest.fixture(scope="module")
def data():
    """Three things in three styles: black on white, filled with a colour, and pale with a grey border."""
    things = [X**2 + Y**2 - 0.5, (X.abs() - 0.2).maximum(Y.abs() - 0.8), (X + Y).abs() - 0.2]
    drawn = []
    for number, thing in enumerate(things):
        inside, border = (thing < 0).float(), (thing.abs() < 0.06).float()
        colour = torch.eye(3)[number][:, None, None]
        drawn += [
            1 - inside.expand(3, -1, -1),
            1 - inside * (1 - colour),
            1 - 0.3 * inside * (1 - colour.roll(1, dims=0)) - 0.4 * border,
        ]
    held_out = torch.zeros(9, dtype=torch.bool)
    held_out[4] = True
    names, styles = ("red apple", "a cat's hat", "two dogs don't run"), ("noto", "flat", "3d")
    images = (torch.stack(drawn) * 255).round().byte()
    return CaptionedPictures(images, torch.arange(9) // 3, torch.arange(9) % 3, held_out, names, styles)


@pytest.fixture
def clip(model):
    torch.manual_seed(0)
    return ContrastiveClip(copy.deepcopy(model.clip).requires_grad_(True))


def losses_of(data, clip, names_per_batch=2):
    train = data.train
    texts = Texts.of(data, clip.clip.tokenizer)
    return contrastive_losses(data.pixels[train], data.name[train], data.style[train], texts, names_per_batch)


def test_every_weight_is_trained_and_draws_are_repeatable(data, clip):
    losses = losses_of(data, clip)
    ((name, loss),) = losses(clip, torch.Generator().manual_seed(0))
    loss.backward()
    assert name == "clip" and loss.isfinite() and not torch.is_autocast_enabled("cpu")
    assert not [key for key, p in clip.named_parameters() if p.grad is None or not p.grad.any()]
    assert next(losses(clip, torch.Generator().manual_seed(0)))[1] == loss


def test_texts_are_those_of_the_pictures(data, model):
    texts = Texts.of(data, model.clip.tokenizer)
    ids = model.clip.tokenizer(data.captions)
    for number, (name, style) in enumerate(zip(data.name, data.style, strict=True)):
        row = texts.captions[name, style]
        assert torch.equal(row, ids[number, : len(row)]) and data.captions[number] == write_caption(
            data.names[name], data.styles[style]
        )
    alone = model.clip.tokenizer([data.names[2], "noto style"])
    assert torch.equal(texts.names[2], alone[0, : texts.names.shape[1]]) and torch.equal(
        texts.styles[0], alone[1, : texts.styles.shape[1]]
    )
    ends = texts.captions.flatten(0, 1).argmax(dim=1)
    assert ends.max() == texts.captions.shape[2] - 1, (
        "nothing is cut off, and no more padding than needed is kept"
    )


def test_it_learns_names_across_styles_and_styles_across_names(data, clip):
    losses = losses_of(data, clip, names_per_batch=3)
    optimizer = torch.optim.AdamW(clip.train().parameters(), lr=1.5e-3)
    for step in range(100):
        optimizer.zero_grad()
        next(losses(clip, torch.Generator().manual_seed(step)))[1].backward()
        optimizer.step()
    trained = measure_retrieval(clip.clip.eval(), data, data.train)
    assert trained["name"] > 0.6 and trained["style"] > 0.6  # chance: a third
    assert set(measure_retrieval(clip.clip, data, data.held_out)) == set(trained)


def test_all_patches_give_the_tokens_of_the_encoder(data, clip, model):
    pixels = normalise(data.pixels)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0)).expand(9, -1)
    ours, theirs = clip.see(pixels, order), clip.clip.encode_pixels(pixels)
    torch.testing.assert_close(ours[:, 0], theirs[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[:, 1:], theirs[:, 1:][:, order[0]], rtol=1e-4, atol=1e-5)
    assert clip.see(pixels, order[:, :5]).shape[1] == 6


def test_positions_are_waves_of_rows_and_columns():
    table = compute_positions(4, 16).unflatten(0, (4, 4))
    assert torch.equal(table[1, 0, :8], table[1, 3, :8]) and torch.equal(table[0, 2, 8:], table[3, 2, 8:])
    assert table[2, 3, [0, 4, 8, 12]].tolist() == pytest.approx(
        [math.sin(2), math.cos(2), math.sin(3), math.cos(3)]
    )
    assert len(table.flatten(0, 1).unique(dim=0)) == 16


def test_distorted_pictures_stay_recognisable():
    """Flat pictures stay as they are, a blot in the middle moves a little, each picture in its own way and
    half of them mirrored."""
    flat = torch.rand(4, 3, 1, 1).expand(4, 3, 32, 32)
    torch.testing.assert_close(distort(flat, torch.Generator().manual_seed(0)), flat)
    axis = torch.linspace(-1, 1, 33)
    # Right of the middle
    blots = (-((axis[:, None] ** 2 + (axis - 0.4) ** 2) / 0.02)).exp().expand(200, 1, 33, 33)
    out = distort(blots, torch.Generator().manual_seed(0))
    assert torch.equal(out, distort(blots, torch.Generator().manual_seed(0))) and not torch.equal(
        out[0], out[1]
    )
    x, y = (
        (out * coordinates).sum(dim=(1, 2, 3)) / out.sum(dim=(1, 2, 3))
        for coordinates in (axis, axis[:, None])
    )
    assert y.abs().max() < 0.5 and (x.abs() - 0.4).abs().max() < 0.4 and 0.35 < (x < 0).float().mean() < 0.65


def test_recoloured_pictures_keep_black_and_white():
    coloured = recolour(
        torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(1)), torch.Generator().manual_seed(0)
    )
    assert coloured.min() >= 0 and coloured.max() <= 1
    ends = recolour(
        torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)]), torch.Generator().manual_seed(2)
    )
    assert ends[0].max() < 0.02 and ends[1].min() > 0.99
    greys = (coloured.amax(dim=1) - coloured.amin(dim=1)).amax(dim=(1, 2)) < 1e-5
    assert 2 <= greys.sum() <= 13  # about a third


def test_a_picture_in_ink_has_its_dark_lines_and_edges_alone(data):
    # One flat and dark, one a red disc on white
    picture = torch.stack([0.2 * torch.ones(3, 56, 56), data.pixels[1]])
    drawn = draw_in_ink(picture, torch.Generator().manual_seed(0))
    assert drawn.shape == picture.shape and drawn[0].min() > 0.85  # nothing is darker than around
    disc = X**2 + Y**2 - 0.5
    # Far from the edge: white, inside too
    assert drawn[1, 0][disc > 0.3].min() > 0.85 and drawn[1, 0][disc < -0.3].min() > 0.85
    assert drawn[1, 0][disc.abs() < 0.05].min() < 0.1 and (drawn[1].amax(dim=0) == drawn[1].amin(dim=0)).all()


def test_halves_are_of_two_pictures_in_one_style():
    style = torch.arange(40) % 3
    images = (torch.arange(40) / 40).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
    mixed = mix_halves(images, style, torch.Generator().manual_seed(0))
    assert torch.equal(mixed[..., :4, :4], images[..., :4, :4])
    other = (mixed[:, 0, -1, -1] * 40).round().long()
    assert (style[other] == style).all() and not (other == torch.arange(40)).any()
    right = (mixed[:, 0, 0, -1] * 40).round().long() == other
    assert 8 < right.sum() < 32 and torch.equal(mixed[right][..., 4:], images[other[right]][..., 4:])
    assert torch.equal(mixed[~right][..., 4:, :], images[other[~right]][..., 4:, :])


def test_outlines_are_alike_for_other_colours_and_contrasts(data):
    black, coloured, _ = compute_outlines(data.pixels[6:9])
    assert black.shape == (8, 8, 8) and black.min() >= 0 and black.max() <= 0.5**0.5 + 1e-6
    cosine = nn.functional.cosine_similarity
    assert cosine(black.flatten(), coloured.flatten(), dim=0) > 0.97
    inverted, faint = (
        compute_outlines(1 - data.pixels[6:7])[0],
        compute_outlines(0.6 + 0.4 * data.pixels[6:7])[0],
    )
    torch.testing.assert_close(inverted, black)
    assert cosine(faint.flatten(), black.flatten(), dim=0) > 0.98
    assert cosine(compute_outlines(data.pixels[0:1]).flatten(), black.flatten(), dim=0) < 0.8


@pytest.mark.parametrize(("turn", "bin"), [(0, 0), (1, 4)])
def test_orientations_of_stripes(turn, bin):
    stripes = (torch.arange(64) // 8 % 2).float().expand(1, 3, 64, 64)
    energy = compute_outlines(stripes.rot90(turn, (2, 3)))[0].mean(dim=(1, 2))
    assert energy.argmax() == bin and energy[(bin + 4) % 8] == pytest.approx(0, abs=1e-3)


def test_surfaces_are_shares_of_flat_and_sharp_and_the_colours():
    picture = torch.ones(1, 3, 64, 64)
    picture[:, 0, :, 32:] = 0  # cyan on the right
    cells = compute_surfaces(picture)[0]
    assert cells.shape == (22, 8, 8)
    torch.testing.assert_close(cells[:10].square().sum(dim=0), torch.ones(8, 8))
    assert cells[0, 0, 0] == 1 and cells[9, 0, 4] > 0.3
    assert (
        cells[10:14, 3, 0].tolist() == [1] * 4
        and cells[10:14, 3, 6].tolist() == [0] * 4
        and (cells[14:] == 1).all()
    )


def test_the_space_of_names_has_the_styles_of_a_name_together(data):
    train = data.train
    space = NameSpace.fit(data.pixels[train], data.name[train], width=2)
    places = space.embed(compute_outlines(data.pixels))
    torch.testing.assert_close(places.norm(dim=1), torch.ones(9))
    means = torch.stack([places[train][data.name[train] == name].mean(dim=0) for name in range(3)])
    assert (places @ means.T).argmax(dim=1).tolist() == data.name.tolist()  # the held-out one too
