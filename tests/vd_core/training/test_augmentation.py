"""Pictures as people bring them."""

import pytest
import torch

from vd_core.training.augmentation import compress, find_ground, place, replace_ground


@pytest.fixture
def pictures():
    """A black square with a white hole on white, and a grey disc that touches the border."""
    square = torch.ones(3, 64, 64)
    square[:, 16:48, 16:48] = 0
    square[:, 28:36, 28:36] = 1
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disc = torch.where(((x - 20) ** 2 + (y - 20) ** 2 < 20**2), 0.5, 1.0).expand(3, -1, -1)
    return torch.stack([square, disc])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_ground_is_white_that_reaches_the_border(pictures):
    found = find_ground(pictures)
    wanted = pictures[:, :1] >= 0.94
    wanted[0, 0, 28:36, 28:36] = False  # a hole of the thing is no ground
    assert torch.equal(found, wanted)
    assert not find_ground(torch.zeros(1, 3, 64, 64)).any() and find_ground(torch.ones(1, 3, 64, 64)).all()


def test_another_ground_leaves_the_thing(pictures):
    changed = replace_ground(pictures, generator())
    inside = torch.nn.functional.max_pool2d(find_ground(pictures).float(), 3, 1, 1).expand_as(pictures) == 0
    assert torch.equal(changed[inside], pictures[inside])
    outside = find_ground(pictures).expand_as(pictures)
    assert (changed[outside] < pictures[outside]).float().mean() > 0.95
    assert torch.equal(changed, replace_ground(pictures, generator())) and not torch.equal(
        changed, replace_ground(pictures, generator(1))
    )


def test_placed_pictures_are_whole_and_smaller(pictures):
    for seed in range(5):
        placed = place(pictures, generator(seed), smallest=0.5)
        ink = (1 - pictures).sum(dim=(1, 2, 3)), (1 - placed).sum(dim=(1, 2, 3))
        share = ink[1] / ink[0]
        assert ((share > 0.22) & (share <= 1.01)).all()  # of the area: nothing is cut off
    moved = {
        tuple((1 - place(pictures, generator(seed), 0.5)[0, 0]).argmax(dim=0).tolist()) for seed in range(5)
    }
    assert len(moved) == 5
    torch.testing.assert_close(place(pictures, generator(), smallest=1.0), pictures)


def test_jpeg_changes_little(pictures):
    written = compress(pictures, generator())
    assert written.shape == pictures.shape and 0 < (written - pictures).abs().mean() < 0.03
